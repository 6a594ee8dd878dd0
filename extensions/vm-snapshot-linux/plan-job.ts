import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../contracts/errors.ts";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";
import type { NotCovered } from "../../contracts/report.ts";
import type { FreezeCalls } from "../../platform/linux/freeze-calls.ts";
import { lowerFileSystems } from "../../platform/linux/freeze-levels.ts";
import {
	type FreezePlan,
	findTargetsBelow,
	type LeftOutFileSystem,
	type PlannedDisk,
	type PlannedFileSystem,
	planFreeze,
} from "../../platform/linux/freeze-plan.ts";
import { groupByDisk } from "../../platform/linux/group-by-disk.ts";
import { reachTargets } from "../../platform/linux/reach-targets.ts";
import { fileSystemNode, reach } from "../../platform/linux/stack-graph.ts";
import { readStorageFacts } from "../../platform/linux/storage-facts.ts";
import type { DiskEvidence, UncoveredEvidence } from "./consistency-verdict.ts";
import { type WatchedDevices, watchedDevices } from "./window-writes.ts";

/** What of a request a plan is made from. */
export type PlanRequest = Pick<SnapshotRequest, "fileSystems" | "tempDisks" | "hostFolders" | "runFolder"> & {
	readonly order: Pick<SnapshotRequest["order"], "level" | "disks">;
};

export type JobPlan = {
	readonly targets: readonly FreezeTarget[];
	/** Those of `targets`, in the same order, with what the report tells of them. */
	readonly fileSystems: readonly PlannedFileSystem[];
	readonly disks: readonly (PlannedDisk & DiskEvidence)[];
	/** Writable, on included disks, and not frozen. */
	readonly uncovered: readonly UncoveredEvidence[];
	readonly notCovered: readonly NotCovered[];
	/** Can't be frozen, but may be shown to have stood still: see `still-file-systems.ts`. */
	readonly maybeStill: readonly LeftOutFileSystem[];
	/** Those of `targets` whose devices tell when they were written to in the window. */
	readonly watched: WatchedDevices;
	/** Superblock to those of `targets` that it stores on: it can't be thawed before them. */
	readonly below: ReadonlyMap<string, readonly string[]>;
	/** Superblocks of `targets` in groups that share no disk with each other. */
	readonly groups: readonly (readonly string[])[];
	/** Superblock and UUID of all that the plan knew as writable, to tell what appears later. */
	readonly known: ReadonlySet<string>;
};

const readLimitMs = 10_000;
const reachLimitMs = 5_000;
const maxLooks = 4;
const betweenLooksMs = 30;

/** @throws `disk-unknown`, `run-dir-unsafe`. What can't be learnt lowers the level instead. */
export async function planJob(
	request: PlanRequest,
	calls: Pick<FreezeCalls, "readLoopStatus">,
	signal: AbortSignal,
): Promise<JobPlan> {
	const { facts, plan } = await readPlan(request, calls, signal);
	const reached = await reachTargets(plan.targets, AbortSignal.any([signal, AbortSignal.timeout(reachLimitMs)]));
	signal.throwIfAborted();
	const planned = new Map(plan.targets.map((one) => [one.superblock, one]));
	const fileSystems = reached.targets.flatMap(({ superblock }) => planned.get(superblock) ?? []);
	const inTheWay = request.order.level === "crash" ? [] : findTargetsBelow(plan, facts, request.runFolder);
	if (inTheWay.length > 0) {
		const where = inTheWay.map((one) => one.mountPoint).join(", ");
		throw new StillpointError("run-dir-unsafe", `${request.runFolder} lies on ${where}`);
	}
	const still = plan.leftOut.filter((one) => one.writable && canBeStill(one));
	return {
		targets: reached.targets,
		fileSystems,
		disks: plan.disks.map((disk) => ({
			...disk,
			superblocks: fileSystems.filter((one) => one.disks.includes(disk.name)).map((one) => one.superblock),
		})),
		uncovered: [
			...plan.leftOut.filter((one) => one.writable && !canBeStill(one)).map(({ why, disks }) => ({ why, disks })),
			...plan.targets.filter((one) => one.spans).map(({ disks }) => ({ why: "spans-left-out-disk" as const, disks })),
			...reached.notReached.map(({ planned: { disks } }) => ({ why: "not-reached" as const, disks })),
		],
		notCovered: [
			...plan.notCovered,
			...reached.notReached.map((one) => ({
				what: one.planned.mountPoint,
				why: "not-reached" as const,
				detail: one.message,
			})),
		],
		maybeStill: still,
		watched: new Map([...watchedDevices(facts)].filter(([superblock]) => planned.has(superblock))),
		below: lowerFileSystems(
			fileSystems.map(({ superblock }) => superblock),
			plan.graph,
		),
		groups: groupByDisk(
			fileSystems.map(({ superblock }) => superblock),
			plan.graph,
		),
		known: new Set(writableOnes(plan).map(identify)),
	};
}

export type Appeared = { readonly uncovered: UncoveredEvidence[]; readonly notCovered: NotCovered[] };

/** Reads the mount tables again, after the thaw: what is writable on an included disk and was not in the plan. */
export async function findAppeared(
	request: PlanRequest,
	before: JobPlan,
	calls: Pick<FreezeCalls, "readLoopStatus">,
	signal: AbortSignal,
): Promise<Appeared> {
	const { plan } = await readPlan(request, calls, signal);
	signal.throwIfAborted();
	const appeared = writableOnes(plan).filter((one) => !before.known.has(identify(one)));
	return {
		uncovered: appeared.map(({ disks }) => ({ why: "appeared-after-plan" as const, disks })),
		notCovered: appeared.map(({ mountPoint, fsType, device }) => ({
			what: mountPoint,
			why: "appeared-after-plan" as const,
			detail: `${fsType} on ${device}`,
		})),
	};
}

/**
 * Mounts and devices come and go while they are read, so that one may look as if it could not be reached, or as if
 * nothing were known of its storage, which counts on every disk. Such a look is repeated; what stays so counts.
 */
async function readPlan(request: PlanRequest, calls: Pick<FreezeCalls, "readLoopStatus">, signal: AbortSignal) {
	const limited = AbortSignal.any([signal, AbortSignal.timeout(readLimitMs)]);
	const { order, fileSystems: filters, tempDisks, hostFolders } = request;
	for (let look = 1; ; look += 1) {
		const facts = await readStorageFacts({ calls, signal: limited });
		signal.throwIfAborted();
		const plan = planFreeze({ facts, selection: order.disks, filters, tempDisks, hostFolders });
		if (look === maxLooks || !mayBeInMotion(plan)) return { facts, plan };
		await sleep(betweenLooksMs);
	}
}

function mayBeInMotion(plan: FreezePlan): boolean {
	if (plan.leftOut.some(({ why }) => why === "not-reached")) return true;
	return !writableOnes(plan).every((one) => isStorageKnown(one, plan));
}

function isStorageKnown({ superblock }: { superblock: string }, { graph }: FreezePlan): boolean {
	for (const node of [fileSystemNode(superblock), superblock]) {
		for (const below of reach(graph, node)) if (below.storageUnknown) return false;
	}
	return true;
}

function writableOnes(plan: FreezePlan): (PlannedFileSystem | LeftOutFileSystem)[] {
	return [...plan.targets, ...plan.leftOut.filter((one) => one.writable)];
}

/** A superblock's number is used again after its end; with type and UUID it is the same one. */
function identify({ superblock, fsType, uuid }: { superblock: string; fsType: string; uuid?: string }): string {
	return `${superblock} ${fsType} ${uuid ?? ""}`;
}

/** An EFI partition: it has no freeze, and is written to only when something is installed. */
function canBeStill({ why, fsType, reaches, deviceNumbers }: LeftOutFileSystem): boolean {
	const reachable = reaches.length > 0 && deviceNumbers.length === 1;
	return why === "unsupported-file-system" && (fsType === "vfat" || fsType === "msdos") && reachable;
}
