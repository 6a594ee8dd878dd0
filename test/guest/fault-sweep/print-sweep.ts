import { isMissed, type RoundOutcome } from "./run-round.ts";
import { type Round, roundsOfBlock } from "./schedule.ts";
import { allSweepCells, nameOfCell, points, sweepFaults, victims, whyNoCell } from "./sweep-cells.ts";

/** One line for a round, as it ends. */
export function formatOutcome(round: Round, outcome: RoundOutcome): string {
	const { index, attempts, misses, tookMs, starvedMs, faults, longestWriteMs, note, level, code, message, hit } =
		outcome;
	const { shape, clock, database } = round.variant;
	const machine = [shape, ...(clock ? ["clock"] : []), ...(database ? ["database"] : [])].join("+");
	const words = [
		`#${index} ${nameOfCell(round.cell)}${note === "" ? "" : ` (${note})`} on ${machine}`,
		`hit ${hit ?? "nothing"}${attempts > 1 ? ` at attempt ${attempts} (${[...new Set(misses)].join("; ")})` : ""}`,
		`${level ?? "no report"}${code === undefined ? "" : `, ${code}`}`,
		...(faults.length > 0 && message !== undefined ? [message] : []),
		`write ${longestWriteMs} ms, round ${(tookMs / 1000).toFixed(1)} s`,
		...(starvedMs > 0 ? [`no processor for ${starvedMs} ms`] : []),
		...(faults.length > 0 ? [`WRONG: ${faults.join("; ")}`] : []),
	];
	return words.join(" | ");
}

export type SweepSummary = {
	readonly rounds: readonly Round[];
	readonly outcomes: ReadonlyMap<number, RoundOutcome>;
	/** Beside those of rounds. */
	readonly faults: readonly string[];
	/** What begins a replay. */
	readonly replay: string;
	readonly wallMs: number;
};

/** Histogram, table, and what went wrong with the command that repeats it. */
export function formatSummary({ rounds, outcomes, faults, replay, wallMs }: SweepSummary): string {
	const done = rounds.flatMap((round) => {
		const outcome = outcomes.get(round.index);
		return outcome === undefined || isMissed(outcome) ? [] : [{ round, outcome }];
	});
	const never = rounds.length - done.length;
	const failed = done.filter(({ outcome }) => outcome.faults.length > 0);
	const misses = done.reduce((sum, { outcome }) => sum + outcome.attempts - 1, 0);
	const histogram = points.map((point) => {
		const count = done.filter(({ outcome }) => outcome.hit === point).length;
		return `${point.padEnd(9)} ${String(count).padStart(5)} ${"#".repeat(Math.ceil((40 * count) / Math.max(1, done.length)))}`;
	});
	const meanMs = done.reduce((sum, { outcome }) => sum + outcome.tookMs, 0) / Math.max(1, done.length);
	const starved = done.filter(({ outcome }) => outcome.starvedMs > 500).length;
	return [
		"Where the rounds struck, by kernel and ledger:",
		...histogram,
		"",
		...formatTable(done),
		"",
		`${done.length} of ${rounds.length} rounds, ${failed.length} wrong, ${never} not run or never hit; ${misses} attempts missed and were repeated`,
		`${(meanMs / 1000).toFixed(1)} s a round; ${(wallMs / 1000).toFixed(0)} s for what was run now`,
		`${starved} rounds went without a processor for more than 500 ms`,
		...faults.map((fault) => `WRONG: ${fault}`),
		...failed.flatMap(({ round, outcome }) => [
			formatOutcome(round, outcome),
			`  again: ${replay} --round ${round.index}   (its whole machine: --block ${Math.floor(round.index / roundsOfBlock)})`,
		]),
	].join("\n");
}

function formatTable(done: readonly { round: Round; outcome: RoundOutcome }[]): string[] {
	const counts = Map.groupBy(done, ({ round }) => nameOfCell(round.cell));
	const show = (victim: (typeof victims)[number], fault: (typeof sweepFaults)[number]) =>
		points.map((point) => {
			const cell = { victim, fault, point };
			if (whyNoCell(cell) !== undefined) return "-";
			const all = counts.get(nameOfCell(cell)) ?? [];
			const wrong = all.filter(({ outcome }) => outcome.faults.length > 0).length;
			return wrong === 0 ? String(all.length) : `${all.length} (${wrong} WRONG)`;
		});
	const rows = victims.flatMap((victim) =>
		sweepFaults
			.filter((fault) =>
				allSweepCells.some((cell) => cell.victim === victim && cell.fault === fault && whyNoCell(cell) === undefined),
			)
			.map((fault) => [fault, victim, ...show(victim, fault)]),
	);
	const table = [["fault", "whose", ...points], ...rows];
	const widths = [0, 1, 2, 3, 4, 5].map((column) => Math.max(...table.map((row) => (row[column] ?? "").length)));
	return table.map((row) => row.map((text, column) => text.padEnd(widths[column] ?? 0)).join(" | "));
}
