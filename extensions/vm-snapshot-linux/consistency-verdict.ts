/**
 * What a snapshot is worth, from the evidence of its job and nothing else. A level is what was proved: each missing
 * piece of evidence lowers, none raises.
 *
 * `held`      what the hold alone was worth: the same for every snapshot that was taken inside the window.
 * `achieved`  what the snapshot is worth: at most `held`, and `none` where none was taken.
 */
import type { FreezeResult } from "../../contracts/freezer-protocol.ts";
import type { SnapshotOutcome } from "../../contracts/hold-protocol.ts";
import { atLeast, type Level, lowest } from "../../contracts/level.ts";
import { type Because, becauseTexts, type NotCovered } from "../../contracts/report.ts";

/** An answer of FIFREEZE or FITHAW. Times are CLOCK_MONOTONIC in ms. */
export type CallEvidence = { readonly result: FreezeResult; readonly startedAtMs: number; readonly endedAtMs: number };

export type FileSystemEvidence = {
	readonly superblock: string;
	readonly freeze?: CallEvidence;
	readonly thaw?: CallEvidence;
	/** Its devices completed a write in the window: somebody thawed it, and froze it again. */
	readonly writtenInWindow?: boolean;
};

/** What `taken` told of a disk, and when that was heard: its own window ended then. */
export type TakenEvidence = { readonly disk: SnapshotOutcome; readonly atMs: number };

/** Storage of a disk that was not held still, or not all of it. Read-only, network, swap and the like are not among it. */
export type UncoveredEvidence = { readonly why: NotCovered["why"]; readonly disks: readonly string[] };

export type DiskEvidence = {
	readonly name: string;
	readonly included: boolean;
	/** Every file system of the plan that has storage on it: all of them must be proved. */
	readonly superblocks: readonly string[];
	/** Must all be found in its image. */
	readonly fileSystemUuids: readonly string[];
};

export type JobEvidence = {
	readonly requested: Level;
	readonly snapshot: "reported" | "unknown";
	readonly disks: readonly DiskEvidence[];
	readonly fileSystems: readonly FileSystemEvidence[];
	readonly uncovered: readonly UncoveredEvidence[];
	/**
	 * From `frozen` told until the asker's `done` or `release`; without end when the hold ended in another way, because
	 * a snapshot may have gone on. Absent: `frozen` was never told.
	 */
	readonly window?: { readonly fromMs: number; readonly untilMs: number };
	/** The mount table was read again after the thaw, and what had appeared stands in `uncovered`. */
	readonly lookedAgain: boolean;
	/** Every application that is configured; `bad`: it is known already that it will not be proved. */
	readonly applications: readonly {
		readonly name: string;
		readonly proved: boolean;
		readonly holdLost: boolean;
		readonly bad?: boolean;
	}[];
	/** The machine's admin said that nothing shall be frozen. */
	readonly freezeDisabled?: boolean;
	/** What `taken` told, in order. A disk that is not among it was taken when `done` came. */
	readonly taken?: readonly TakenEvidence[];
	/** What `done` told. Absent: it never came. */
	readonly outcomes?: readonly SnapshotOutcome[];
	/** UUIDs of the file systems found in each disk's image. Absent: not described. */
	readonly described?: readonly { readonly name: string; readonly fileSystemUuids: readonly string[] }[];
};

export type DiskVerdict = {
	readonly name: string;
	readonly held: Level;
	readonly achieved: Level | null;
	readonly because: readonly Because[];
};
export type Verdict = {
	readonly held: Level;
	readonly achieved: Level | null;
	readonly because: readonly Because[];
	readonly disks: readonly DiskVerdict[];
};

/** Kinds of storage that is not covered and lowers a disk, by the word that says so. The others hold nothing that could change. */
const lowering: Partial<Record<NotCovered["why"], Because>> = {
	"excluded-by-config": "excluded-by-config",
	"unsupported-file-system": "unsupported-file-system",
	"not-reached": "not-reached",
	"spans-left-out-disk": "spans-left-out-disk",
	"foreign-freeze": "foreign-freeze",
	"appeared-after-plan": "appeared-after-plan",
};

export function judge(evidence: JobEvidence): Verdict {
	const disks = evidence.disks.map((disk) => (disk.included ? judgeDisk(evidence, disk) : leftOut(evidence, disk)));
	const included = disks.filter((_, index) => evidence.disks[index]?.included === true);
	const achieved = included.map((disk) => disk.achieved).filter((level) => level !== null);
	return {
		held: lowest(
			included.map((disk) => disk.held),
			"none",
		),
		achieved: evidence.snapshot === "unknown" ? null : lowest(achieved, "none"),
		because: inOrder(included.flatMap((disk) => disk.because)),
		disks,
	};
}

/** The level that a hold can be worth at best before it began: what `frozen` tells the asker. */
export function foreseeLevel(
	plan: Pick<JobEvidence, "requested" | "disks" | "uncovered" | "freezeDisabled" | "applications">,
): Level {
	if (plan.requested === "crash" || plan.freezeDisabled === true) return "crash";
	const included = plan.disks.filter((disk) => disk.included);
	const lowered = included.some((disk) => whyUncovered(plan.uncovered, disk.name).length > 0);
	if (lowered || included.length === 0) return "crash";
	if (plan.requested !== "application" || plan.applications.length === 0) return "file-system";
	return plan.applications.some(({ bad }) => bad === true) ? "file-system" : "application";
}

/** Frozen from before the snapshots of its disks began until after they ended: FITHAW's own answer is the proof. */
export function wasFrozenAllAlong(
	fileSystem: FileSystemEvidence,
	evidence: Pick<JobEvidence, "window" | "disks" | "taken">,
): boolean {
	const window = windowOf(evidence, fileSystem.superblock);
	return window !== undefined && whyNotFrozen(fileSystem, window) === undefined;
}

/** From when on a disk counts as taken: the word that it is, said of it while all was frozen. */
export function takenAtMs(
	{
		window,
		taken = [],
	}: { readonly window?: JobEvidence["window"] | undefined; readonly taken?: readonly TakenEvidence[] },
	disk: string,
): number {
	const told = taken.find((one) => one.disk.name === disk && one.disk.ok && one.atMs > (window?.fromMs ?? 0));
	return told?.atMs ?? window?.untilMs ?? Number.POSITIVE_INFINITY;
}

function judgeDisk(evidence: JobEvidence, disk: DiskEvidence): DiskVerdict {
	const hold = judgeHold(evidence, disk);
	const snapshot = judgeSnapshot(evidence, disk, hold.level);
	return {
		name: disk.name,
		held: hold.level,
		achieved: evidence.snapshot === "unknown" ? null : snapshot.level,
		because: inOrder([...hold.because, ...snapshot.because]),
	};
}

function leftOut(evidence: JobEvidence, disk: DiskEvidence): DiskVerdict {
	return {
		name: disk.name,
		held: "none",
		achieved: evidence.snapshot === "unknown" ? null : "none",
		because: [],
	};
}

type Finding = { readonly level: Level; readonly because: readonly Because[] };

function judgeHold(evidence: JobEvidence, disk: DiskEvidence): Finding {
	if (evidence.window === undefined) return { level: "none", because: [] };
	if (evidence.requested === "crash") return { level: "crash", because: ["ordered-crash"] };
	if (evidence.freezeDisabled === true) return { level: "crash", because: ["freeze-disabled"] };
	const because: Because[] = whyUncovered(evidence.uncovered, disk.name);
	for (const superblock of disk.superblocks) {
		const found = evidence.fileSystems.find((one) => one.superblock === superblock);
		const window = windowOf(evidence, superblock) ?? evidence.window;
		const why = found === undefined ? "evidence-lost" : whyNotFrozen(found, window);
		if (why !== undefined) because.push(why);
	}
	if (!evidence.lookedAgain) because.push("evidence-lost");
	if (because.length > 0) return { level: "crash", because };
	if (evidence.requested !== "application") return { level: "file-system", because };
	because.push(...whyNotApplication(evidence.applications));
	return { level: because.length > 0 ? "file-system" : "application", because };
}

function judgeSnapshot(evidence: JobEvidence, disk: DiskEvidence, held: Level): Finding {
	if (evidence.snapshot === "unknown") return { level: held, because: [] };
	// Told twice, the weaker word counts; the same for what an image carries.
	const outcomes = evidence.outcomes?.filter((one) => one.name === disk.name) ?? [];
	const taken = evidence.taken?.filter((one) => one.disk.name === disk.name) ?? [];
	if (outcomes.length === 0) return { level: "none", because: ["snapshot-not-taken"] };
	const told = [...taken.map((one) => one.disk), ...outcomes];
	if (!told.every(({ ok }) => ok)) return { level: "none", because: ["snapshot-failed"] };
	if (evidence.window === undefined || wasTakenOutside(evidence.window.fromMs, taken, outcomes))
		return { level: "crash", because: ["snapshot-outside-window"] };
	const mapping = whyNotMapped(disk, evidence.described);
	const matters = mapping === "mapping-wrong" || (mapping !== undefined && atLeast(held, "file-system"));
	return matters ? { level: lowest([held, "crash"], "crash"), because: [mapping] } : { level: held, because: [] };
}

/** Before everything was frozen; or `done` names another snapshot than `taken` did, and the disk was let go in between. */
function wasTakenOutside(
	fromMs: number,
	taken: readonly TakenEvidence[],
	outcomes: readonly SnapshotOutcome[],
): boolean {
	if (taken.length === 0) return false;
	const ids = new Set([...taken.map(({ disk }) => disk), ...outcomes].flatMap((one) => one.snapshotId ?? []));
	return ids.size > 1 || taken.some(({ atMs }) => atMs <= fromMs);
}

/** A file system's own window: until the last of its disks was taken. */
function windowOf(
	evidence: Pick<JobEvidence, "window" | "disks" | "taken">,
	superblock: string,
): JobEvidence["window"] {
	const { window } = evidence;
	if (window === undefined) return undefined;
	const own = evidence.disks.filter((disk) => disk.included && disk.superblocks.includes(superblock));
	const untilMs = Math.max(...own.map(({ name }) => takenAtMs(evidence, name)));
	return own.length === 0 ? window : { fromMs: window.fromMs, untilMs };
}

function whyUncovered(uncovered: readonly UncoveredEvidence[], disk: string): Because[] {
	return uncovered
		.filter((one) => one.disks.includes(disk))
		.flatMap((one) => {
			const why = lowering[one.why];
			return why === undefined ? [] : [why];
		});
}

function whyNotFrozen(
	{ freeze, thaw, writtenInWindow }: FileSystemEvidence,
	window: { readonly fromMs: number; readonly untilMs: number },
): Because | undefined {
	if (freeze === undefined) return "evidence-lost";
	if (freeze.result === "foreign") return "foreign-freeze";
	if (freeze.result !== "frozen") return "freeze-failed";
	if (freeze.endedAtMs > window.fromMs) return "snapshot-outside-window";
	if (thaw === undefined) return "evidence-lost";
	if (thaw.result === "not-frozen") return "thawed-by-other";
	if (thaw.result !== "thawed") return "evidence-lost";
	if (thaw.startedAtMs < window.untilMs) return "thawed-early";
	if (writtenInWindow === true) return "thawed-by-other";
	return undefined;
}

function whyNotApplication(applications: JobEvidence["applications"]): Because[] {
	if (applications.length === 0) return ["no-applications"];
	return applications
		.filter((application) => !application.proved)
		.map((application) => (application.holdLost ? "script-hold-lost" : "script-failed"));
}

function whyNotMapped(disk: DiskEvidence, described: JobEvidence["described"]): Because | undefined {
	const images = described?.filter((one) => one.name === disk.name) ?? [];
	if (images.length === 0 || disk.fileSystemUuids.length === 0) return "mapping-unproved";
	return images.every((image) => carries(image, disk)) ? undefined : "mapping-wrong";
}

function carries(image: Pick<DiskEvidence, "fileSystemUuids">, disk: DiskEvidence): boolean {
	const found = new Set(image.fileSystemUuids.map((uuid) => uuid.toLowerCase()));
	return disk.fileSystemUuids.every((uuid) => found.has(uuid.toLowerCase()));
}

/** Each once, in the order of the catalogue, so that equal evidence gives equal reports. */
function inOrder(because: readonly Because[]): Because[] {
	const found = new Set(because);
	return (Object.keys(becauseTexts) as Because[]).filter((word) => found.has(word));
}
