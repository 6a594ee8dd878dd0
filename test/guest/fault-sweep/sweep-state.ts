/** What a sweep has done so far, a line of JSON for each round: a sweep that was interrupted goes on with it. */
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { RoundOutcome } from "./run-round.ts";
import type { SweepShape } from "./sweep-cells.ts";

/** What decides the rounds. */
export type SweepPlan = { readonly seed: number; readonly shapes: readonly SweepShape[] };

export type SweepState = {
	readonly plan: SweepPlan;
	/** By the round's number. */
	readonly done: ReadonlyMap<number, RoundOutcome>;
	add(outcome: RoundOutcome): void;
};

/** Undefined: there is none there. */
export function findSweepPlan(path: string): SweepPlan | undefined {
	const [first] = readLines(path);
	return first === undefined ? undefined : (JSON.parse(first) as SweepPlan);
}

/** Goes on with what lies there, or begins. @throws when what lies there is of another plan */
export function openSweepState(path: string, plan: SweepPlan): SweepState {
	const [first, ...lines] = readLines(path);
	if (first === undefined) {
		mkdirSync(dirname(path), { recursive: true });
		writeFileSync(path, `${JSON.stringify(plan)}\n`);
	} else if (first !== JSON.stringify(plan)) throw new Error(`${path} is of another sweep: ${first}`);
	else writeFileSync(path, [first, ...lines, ""].join("\n"));
	const done = new Map(lines.map((line) => JSON.parse(line) as RoundOutcome).map((one) => [one.index, one]));
	return {
		plan,
		done,
		add(outcome) {
			done.set(outcome.index, outcome);
			appendFileSync(path, `${JSON.stringify(outcome)}\n`);
		},
	};
}

/** A line that was being written when the sweep was interrupted is not there yet. */
function readLines(path: string): string[] {
	let text: string;
	try {
		text = readFileSync(path, "utf8");
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
		throw error;
	}
	return text
		.slice(0, text.lastIndexOf("\n") + 1)
		.split("\n")
		.filter(Boolean);
}
