/** Which round does what: decided by the seed alone, and so that all cells come equally often. */
import { nameOfCell, points, type SweepCell, sweepCells, sweepShapes, type Variant, whyNotOn } from "./sweep-cells.ts";

export type Round = {
	/** From 0. */
	readonly index: number;
	readonly cell: SweepCell;
	readonly variant: Variant;
	/** Rounds of one block run on one machine, one after another. */
	readonly block: number;
	/** Decides what the cell leaves open. */
	readonly seed: number;
};

/** One of each point. */
export const roundsOfBlock = points.length;

/** The first `count` rounds. Round K is the same whatever `count` is. @param shapes those that can be made here */
export function planRounds(
	seed: number,
	count: number,
	shapes: readonly Variant["shape"][] = sweepShapes,
	cells: readonly SweepCell[] = sweepCells,
): Round[] {
	const random = makeRandom(seed);
	const uses = new Map(cells.map((cell) => [nameOfCell(cell), 0]));
	const rounds: Round[] = [];
	let waiting: Variant["shape"][] = [];
	for (let block = 0; rounds.length < count; block += 1) {
		if (waiting.length === 0) waiting = shuffle([...shapes], random);
		const shape = waiting.pop() as Variant["shape"];
		const variant = { shape, clock: block % 3 === 1, database: block % 2 === 0 };
		for (const point of points) {
			const possible = cells.filter((cell) => cell.point === point && whyNotOn(cell, variant) === undefined);
			const least = Math.min(...possible.map((cell) => uses.get(nameOfCell(cell)) ?? 0));
			const fewest = possible.filter((cell) => uses.get(nameOfCell(cell)) === least);
			const cell = fewest[Math.floor(random() * fewest.length)] as SweepCell;
			uses.set(nameOfCell(cell), least + 1);
			rounds.push({ index: rounds.length, cell, variant, block, seed: Math.floor(random() * 2 ** 32) });
		}
	}
	return rounds.slice(0, count);
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export function makeRandom(seed: number): () => number {
	let state = seed >>> 0;
	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let mixed = Math.imul(state ^ (state >>> 15), state | 1);
		mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
	};
}

function shuffle<T>(all: T[], random: () => number): T[] {
	for (let last = all.length - 1; last > 0; last -= 1) {
		const other = Math.floor(random() * (last + 1));
		[all[last], all[other]] = [all[other] as T, all[last] as T];
	}
	return all;
}
