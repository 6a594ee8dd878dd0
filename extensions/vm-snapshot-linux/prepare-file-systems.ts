import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../contracts/errors.ts";
import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { findExclusiveOperations } from "../../platform/linux/exclusive-operations.ts";
import type { FreezeCalls } from "../../platform/linux/freeze-calls.ts";
import type { Freezer } from "../../platform/linux/freezer/freezer-client.ts";
import { type HeldTargets, openTargets } from "../../platform/linux/rescue-thaw.ts";
import type { HeldFolder } from "../../platform/linux/target-folders.ts";
import { findFrozen } from "../../platform/linux/write-probe.ts";
import { untilAborted } from "./abort-reasons.ts";
import type { Clock } from "./clock.ts";
import { type HoldMarkers, placeMarkers } from "./hold-markers.ts";
import type { JobRecord } from "./job-record.ts";
import type { JobPlan } from "./plan-job.ts";
import { syncWhileItPays } from "./sync-file-systems.ts";

const freezerReadyLimitMs = 10_000;
const probeLimitMs = 5_000;
const frozenProbeLimitMs = 2_000;
/** At most, and never more than half of what the order allows for all of the preparation. */
const exclusiveWaitLimitMs = 30_000;
const exclusivePollMs = 200;

export type PreparedFileSystems = {
	readonly held: HeldTargets;
	/** The folders of `held`, in groups that share no disk with each other. */
	readonly groups: readonly (readonly HeldFolder[])[];
	readonly markers: HoldMarkers;
};

/**
 * Everything that can be slow, before the window: directories opened here and in the freezer, exclusive operations
 * waited for, a durable write on each file system, and what is dirty written out. What is acquired is on `undo`.
 * @throws `exclusive-operation`, `write-probe-stuck`, `foreign-freeze`, `freeze-failed`, `freezer-died`.
 */
export async function prepareFileSystems(
	plan: JobPlan,
	given: {
		record: JobRecord;
		freezer: Freezer;
		calls: FreezeCalls;
		clock: Clock;
		signal: AbortSignal;
		undo: AsyncDisposableStack;
	},
): Promise<PreparedFileSystems> {
	const { record, freezer, calls, clock, signal, undo } = given;
	const { jobId } = record.request.order;
	const bootId = await readBootId();
	const freezerReady = freezer.prepare({ jobId, bootId, targets: plan.targets, limitMs: freezerReadyLimitMs });
	freezerReady.catch(() => undefined);
	const held = undo.use(await untilAborted(openTargets(plan.targets), signal));
	const [fault] = held.faults;
	if (fault !== undefined) {
		throw new StillpointError("freeze-failed", `${fault.target.mountPoint} ${fault.message}`, {
			details: { superblock: fault.target.superblock },
		});
	}
	const groups = plan.groups.map((group) => held.folders.filter(({ target }) => group.includes(target.superblock)));
	const markers = probeWrites(held, given);
	await Promise.all([
		untilAborted(freezerReady, signal),
		waitForExclusiveOperations(plan, Math.min(exclusiveWaitLimitMs, record.request.order.prepareLimitMs / 2), signal),
		markers.then(() =>
			syncWhileItPays(groups, calls, {
				clock,
				signal,
				onSync: (superblock, syncMs) => record.addSync(superblock, syncMs),
			}),
		),
	]);
	return { held, groups, markers: await markers };
}

async function probeWrites(
	held: HeldTargets,
	given: { record: JobRecord; signal: AbortSignal; undo: AsyncDisposableStack },
): Promise<HoldMarkers> {
	const { record, signal, undo } = given;
	const placing = placeMarkers(held.folders, record.request.order.jobId, probeLimitMs);
	undo.defer(() => placing.then((placed) => placed.remove()));
	const markers = await untilAborted(placing, signal);
	const stuck: FreezeTarget[] = [];
	for (const { target } of held.folders) {
		const result = markers.answers.get(target.superblock)?.result;
		if (result === "ok") record.markers.set(target.superblock, markers.nonce);
		if (result === "stuck") stuck.push(target);
	}
	if (stuck.length > 0) throw await explainStuck(stuck, signal);
	return markers;
}

/** @param stuck At least one. */
async function explainStuck(stuck: readonly FreezeTarget[], signal: AbortSignal): Promise<StillpointError> {
	const paths = stuck.map(({ openPath }) => openPath);
	const frozen = await untilAborted(findFrozen(paths, frozenProbeLimitMs), signal);
	const foreign = stuck.find(({ openPath }) => frozen.includes(openPath));
	const { superblock, mountPoint } = foreign ?? (stuck[0] as FreezeTarget);
	const details = { superblock };
	return foreign === undefined
		? new StillpointError("write-probe-stuck", `${mountPoint}: a write took more than ${probeLimitMs} ms`, { details })
		: new StillpointError("foreign-freeze", `${mountPoint} is frozen by somebody else`, { details });
}

async function waitForExclusiveOperations(plan: JobPlan, limitMs: number, signal: AbortSignal): Promise<void> {
	const limit = AbortSignal.timeout(limitMs);
	for (;;) {
		const [found] = await untilAborted(findExclusiveOperations(plan.fileSystems), signal);
		if (found === undefined) return;
		if (limit.aborted) {
			throw new StillpointError("exclusive-operation", `${found.mountPoint}: ${found.operation} is running`);
		}
		await untilAborted(sleep(exclusivePollMs), signal);
	}
}
