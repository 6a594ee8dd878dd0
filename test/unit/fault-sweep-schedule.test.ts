import { expect, test } from "vitest";
import { planRounds, roundsOfBlock } from "../guest/fault-sweep/schedule.ts";
import { nameOfCell, points, sweepCells, whyNoCell, whyNotOn } from "../guest/fault-sweep/sweep-cells.ts";

test("in a thousand rounds each cell comes at least five times, and each point in a quarter of them", () => {
	for (const seed of [1, 2, 4_294_967_295]) {
		const rounds = planRounds(seed, 1_000);
		for (const point of points) expect(rounds.filter(({ cell }) => cell.point === point)).toHaveLength(250);
		const counts = new Map(sweepCells.map((cell) => [nameOfCell(cell), 0]));
		for (const { cell } of rounds) counts.set(nameOfCell(cell), (counts.get(nameOfCell(cell)) ?? 0) + 1);
		expect([...counts].filter(([, count]) => count < 5)).toEqual([]);
	}
});

test("a seed decides a round, however many are run, and another seed decides otherwise", () => {
	const whole = planRounds(7, 400);
	expect(planRounds(7, 31)).toEqual(whole.slice(0, 31));
	expect(planRounds(8, 400).map(({ cell }) => nameOfCell(cell))).not.toEqual(whole.map(({ cell }) => nameOfCell(cell)));
});

test("no round is planned that can't be, and those of a block share their machine", () => {
	for (const round of planRounds(3, 400)) {
		expect(whyNoCell(round.cell)).toBeUndefined();
		expect(whyNotOn(round.cell, round.variant)).toBeUndefined();
		expect(round.block).toBe(Math.floor(round.index / roundsOfBlock));
	}
});

test("where a shape can't be made, the others are swept all the same", () => {
	const rounds = planRounds(5, 200, ["over-mounted"]);
	expect(new Set(rounds.map(({ variant }) => variant.shape))).toEqual(new Set(["over-mounted"]));
	expect(rounds.some(({ cell }) => cell.fault === "stuck")).toBe(false);
});
