/** The sweep's combinations, as data: which fault, of whom, at which point of a hold, and what can't be. */
import { type ShapeKind, shapeKinds } from "../../fixtures/shapes.ts";

/** Where in a hold the fault strikes. Judged afterwards by what the kernel and the ledger said at that instant. */
export const points = ["before", "freezing", "frozen", "thawing"] as const;
export type Point = (typeof points)[number];

/** Whose the fault is. `all`: agent, extension and freezer at once, and the guard in every second round. */
export const victims = [
	"agent",
	"extension",
	"freezer",
	"guard",
	"script",
	"all",
	"controller",
	"link",
	"disk",
	"others",
	"clock",
] as const;
export type Victim = (typeof victims)[number];

const faultsOf = {
	agent: ["killed", "stopped", "terminated", "starved"],
	extension: ["killed", "stopped", "terminated", "starved", "full-pipe"],
	freezer: ["killed", "stopped", "terminated", "starved"],
	guard: ["killed", "stopped", "terminated", "starved"],
	script: ["killed", "stopped", "terminated", "starved", "full-pipe"],
	all: ["killed", "stopped"],
	controller: ["killed", "stopped"],
	link: ["closed", "stalled"],
	disk: ["slow", "stuck", "huge-write", "balance"],
	others: ["freeze", "thaw", "unmount", "remount", "over-mount", "second-order", "thaw-command"],
	clock: ["ahead", "behind"],
} as const satisfies Record<Victim, readonly string[]>;
export type SweepFault = (typeof faultsOf)[Victim][number];
export const sweepFaults = [...new Set(Object.values(faultsOf).flat())] as readonly SweepFault[];

export type SweepCell = { readonly victim: Victim; readonly fault: SweepFault; readonly point: Point };

export const allSweepCells: readonly SweepCell[] = victims.flatMap((victim) =>
	sweepFaults.flatMap((fault) => points.map((point) => ({ victim, fault, point }))),
);

/** Storage of the machine. `slow`: one of its disks is as slow as the round wants. */
export const sweepShapes = [...shapeKinds, "slow"] as const;
export type SweepShape = ShapeKind | "slow";

/** What a machine has that not all have. */
export type Variant = {
	readonly shape: SweepShape;
	/** Agent and extension see a wall clock that can jump. */
	readonly clock: boolean;
	/** A SQLite database is written to all the time, and held still by each job. */
	readonly database: boolean;
};

/** Why there is no such cell, on any machine. */
export function whyNoCell({ victim, fault, point }: SweepCell): string | undefined {
	if (!(faultsOf[victim] as readonly string[]).includes(fault)) return "no fault of theirs";
	if (victim === "others" && fault === "thaw" && point === "before") return "nothing is frozen that could be thawed";
	return undefined;
}

/** Why not on this one. */
export function whyNotOn({ victim, fault }: SweepCell, { shape, clock }: Variant): string | undefined {
	if (victim === "clock") return clock ? undefined : "its clock can't jump";
	if (fault === "slow" || fault === "stuck") return shape === "slow" ? undefined : "its disks have no brake";
	if (fault === "balance") return shape === "btrfs" || shape === "flat" ? undefined : "no btrfs";
	const moves: readonly SweepFault[] = ["unmount", "over-mount", "remount"];
	if (shape === "own-state" && moves.includes(fault)) return "the agent's own folder would be gone, not only a disk's";
	return undefined;
}

export const sweepCells: readonly SweepCell[] = allSweepCells.filter((cell) => whyNoCell(cell) === undefined);

export const nameOfCell = ({ victim, fault, point }: SweepCell) => `${victim}-${fault}-${point}`;
