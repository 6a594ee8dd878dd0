/** The table of faults, as data: every component, every fault, every phase. */
import { type JobPhase, jobPhases } from "../../../contracts/hold-protocol.ts";
import { atLeast, type Level } from "../../../contracts/level.ts";

export const components = ["agent", "extension", "freezer", "script", "controller"] as const;
export type Component = (typeof components)[number];

/** `stalled`: stopped, and let go again when every deadline of the hold has passed. */
export const faults = ["killed", "stopped", "stalled"] as const;
export type Fault = (typeof faults)[number];

/** The job's own phases, and the way of its report to the controller after them. */
export const phases = [...(Object.keys(jobPhases) as JobPhase[]), "reporting"] as const;
export type Phase = (typeof phases)[number];

export type Cell = { readonly component: Component; readonly fault: Fault; readonly phase: Phase };

export const holdLimitMs = 1_000;
/** House promise 1: after the hold's deadline. */
export const promiseMs = 2_000;
/** So long a stalled process does nothing. */
export const stallMs = holdLimitMs + promiseMs + 200;

/** Why there is no such cell. */
const ended = "the job has ended: nothing of it runs, and the next cell of the same machine is the test of that";
const kernel = "only the kernel makes a job stuck, and only it ends that: see snapshot-faults.test.ts";
const noExtension = "the extension is started when the job leaves the queue, and ends with its report";
const noFreezer = "the freezer ends when all is thawed";
const noScript = "no script runs in this phase";

export function whyMissing({ component, phase }: Cell): string | undefined {
	if (phase === "done" || phase === "failed") return ended;
	if (phase === "stuck") return kernel;
	if (component === "freezer" && phase === "post") return noFreezer;
	if (component === "extension" || component === "freezer")
		return phase === "queued" || phase === "reporting" ? noExtension : undefined;
	const scripted: readonly Phase[] = ["scripts", "freezing", "frozen", "thawing", "post", "undoing"];
	if (component === "script") return scripted.includes(phase) ? undefined : noScript;
	return undefined;
}

export const allCells: readonly Cell[] = components.flatMap((component) =>
	faults.flatMap((fault) => phases.map((phase) => ({ component, fault, phase }))),
);

/**
 * Those that take longest first, so that no lane works alone at the end: an extension that is stopped is waited for.
 * Then by phase, so that cells that wait and cells that work are side by side.
 */
export const cellsToRun: readonly Cell[] = allCells
	.filter((cell) => whyMissing(cell) === undefined)
	.sort((a, b) => Number(isSlow(b)) - Number(isSlow(a)) || phases.indexOf(a.phase) - phases.indexOf(b.phase));

function isSlow({ component, fault }: Cell): boolean {
	return component === "extension" && fault === "stopped";
}

export const nameOf = ({ component, fault, phase }: Cell) => `${component}-${fault}-${phase}`;

/** The best level that a report may say after this fault: what a script held or proved is lost with it. */
export function bestLevel({ component, fault, phase }: Cell): Level {
	if (fault === "stalled") return "application";
	if (component === "script") return "file-system";
	const before: readonly Phase[] = ["planning", "preparing", "prepared", "scripts", "freezing"];
	if (component === "extension") return before.includes(phase) ? "none" : "crash";
	return "application";
}

export function isBetter(level: Level, limit: Level): boolean {
	return level !== limit && atLeast(level, limit);
}
