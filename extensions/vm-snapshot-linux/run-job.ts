/**
 * One snapshot job from its request to its report: straight-line code beside the table of phases (`jobPhases`). What
 * is acquired is undone from a stack, in reverse, whatever happens; cancel, deadline and a lost host come by one door.
 */
import { StillpointError, worstError } from "../../contracts/errors.ts";
import type { CommandOf, SnapshotHost } from "../kit/run-snapshot-command.ts";
import { deadlineSignal } from "./abort-reasons.ts";
import { judge } from "./consistency-verdict.ts";
import { makeWindow, waitWhileHeld } from "./hold-window.ts";
import { type Job, tell, tellThawed, unlessDegraded } from "./job.ts";
import { JobPhaseWalk } from "./job-phase-walk.ts";
import { judgeFailure } from "./judge-failure.ts";
import { lookAgain } from "./look-again.ts";
import { planJob } from "./plan-job.ts";
import { type PreparedFileSystems, prepareFileSystems } from "./prepare-file-systems.ts";
import { pruneRunFolder } from "./prune-run-folder.ts";
import { publishReport } from "./publish-report.ts";
import { requireReachable } from "./require-reachable.ts";
import { prepareApplications } from "./script-runner/prepare-applications.ts";
import { predictStall, requireWithinBudget, waitForQuietMoment } from "./stall-budget.ts";
import type { StartedJob } from "./started-job.ts";
import { countWritesBefore, type WriteCounts } from "./still-file-systems.ts";
import { syncTogether, syncWhileItPays } from "./sync-file-systems.ts";
import { takesDisksApart } from "./taken-disks.ts";

const describedLimitMs = 30_000;
const stillLimitMs = 5_000;

/** Ends when the report was sent. @throws only when it could not be. */
export async function runJob(host: SnapshotHost, started: StartedJob): Promise<void> {
	const { record, clock } = started;
	const { order } = host.request;
	const phases = new JobPhaseWalk((phase) => tell(host, { type: "phase", jobId: order.jobId, phase }));
	let error: StillpointError | undefined;
	try {
		await using undo = new AsyncDisposableStack();
		try {
			await makeSnapshot({ ...started, host, phases, undo });
		} catch (thrown) {
			phases.undo();
			throw thrown;
		}
	} catch (thrown) {
		error = worstError(thrown);
	}
	if (record.window !== undefined && !record.lookedAgain) await lookAgain(started, new Map());
	if (phases.phase === "stuck") phases.advance("undoing");
	phases.advance("judging");
	const verdict = judge(record.evidence());
	error ??= record.applications?.findFailure() ?? judgeFailure(verdict, order.acceptLevel);
	await publishReport(host, { record, verdict, error, nowMs: clock.nowMs() });
	phases.advance(error === undefined ? "done" : "failed");
	await pruneRunFolder(host.request.runFolder);
}

async function makeSnapshot(job: Job): Promise<void> {
	const { host, record, phases, clock } = job;
	const { order } = host.request;
	using limit = deadlineSignal(order.prepareLimitMs, () => {
		return new StillpointError("deadline-passed", `not ready to freeze within ${order.prepareLimitMs} ms`);
	});
	const preparing = AbortSignal.any([host.ending, limit.signal]);

	phases.advance("planning");
	const calls = await job.calls;
	const plan = await planJob(host.request, calls, preparing);
	record.plan = plan;
	await prepareApplications(record);
	requireReachable(job);

	phases.advance("preparing");
	const prepared = await unlessDegraded(job, () => prepareToFreeze(job, preparing));
	await sendPrepared(job, prepared !== undefined);
	phases.advance("prepared");
	const go = await host.commands.wait(["freeze", "release"], preparing);
	if (go.type === "release") throw whyReleased(go);
	record.predictedMs = go.predictedMs;
	const onSync = (superblock: string, syncMs: number) => record.addSync(superblock, syncMs);
	const sync = async () => {
		if (prepared !== undefined) await syncWhileItPays(prepared.groups, calls, { clock, signal: preparing, onSync });
	};
	if (prepared !== undefined) await waitForQuietMoment(job, sync, preparing);

	phases.advance("scripts");
	if (record.applications !== undefined) {
		const applications = record.applications;
		job.undo.defer(() => applications.resume("no-snapshot", record.recoveryPoint()));
		await applications.quiet(preparing);
	}
	await sync();
	const counts = await countWritesBefore(plan.maybeStill, calls, AbortSignal.timeout(stillLimitMs)).catch(
		(): WriteCounts => new Map(),
	);
	preparing.throwIfAborted();
	if (prepared !== undefined) {
		await syncTogether(prepared.held.folders, calls, { clock, signal: preparing, onSync });
		requireWithinBudget(job);
		record.predictedStallMs = predictStall(job);
	}
	limit[Symbol.dispose]();

	phases.advance("freezing");
	const frozenWindow = prepared === undefined ? undefined : await makeWindow(job, prepared);
	const command = await waitWhileHeld(job, frozenWindow);
	const thawing = frozenWindow?.thaw();
	phases.advance("thawing");
	await thawing;
	if (frozenWindow !== undefined) record.thawedAt ??= clock.utcNow();
	tellThawed(job);
	if (phases.phase === "thawing") phases.advance("post");

	// Markers and the second look take their time while the asker reads what its images carry.
	const removing = prepared?.markers.remove();
	const taken = record.outcomes?.some(({ ok }) => ok) === true;
	const isGivenUp = command.type === "release" && (order.snapshot === "reported" || command.error !== undefined);
	const outcome = taken ? "snapshot" : command.type === "release" && !isGivenUp ? "unknown" : "no-snapshot";
	await record.applications?.resume(outcome, record.recoveryPoint());
	await Promise.all([lookAgain(job, counts), taken ? waitForDescription(job) : undefined, removing]);
	if (isGivenUp) throw whyReleased(command);
}

async function prepareToFreeze(job: Job, signal: AbortSignal): Promise<PreparedFileSystems | undefined> {
	const { record, freezer, clock, undo } = job;
	if (freezer === undefined || record.plan === undefined || record.freezeDisabledBy !== undefined) return undefined;
	if (record.plan.targets.length === 0) {
		throw new StillpointError("nothing-to-freeze", "no file system lies on the disks of the order");
	}
	return prepareFileSystems(record.plan, { record, freezer, calls: await job.calls, clock, signal, undo });
}

async function sendPrepared({ host, record }: Job, canFreeze: boolean): Promise<void> {
	const { order, holdLimitMs } = host.request;
	const { jobId } = order;
	if (order.level !== "crash" && record.freezeDisabledBy === undefined) {
		await host.send({ type: "targets", jobId, targets: [...(record.plan?.targets ?? [])] });
	}
	const disks = (record.plan?.disks ?? [])
		.filter(({ included }) => included)
		.map(({ name, serial, sizeBytes, fileSystemUuids }) => ({
			name,
			...(serial === undefined ? {} : { serial }),
			sizeBytes,
			fileSystemUuids: [...fileSystemUuids],
		}));
	const perDisk = canFreeze && order.snapshot === "reported" && takesDisksApart(record.plan);
	await host.send({ type: "prepared", jobId, disks, holdLimitMs, ...(perDisk ? { perDisk } : {}) });
}

async function waitForDescription({ host, record }: Job): Promise<void> {
	using limit = deadlineSignal(describedLimitMs, () => new StillpointError("deadline-passed", "no description"));
	const ends = AbortSignal.any([host.ending, limit.signal]);
	const described = await host.commands.wait(["described"], ends).catch(() => undefined);
	record.described = described?.disks.map(({ name, identity }) => ({
		name,
		fileSystemUuids: identity.fileSystems.map(({ uuid }) => uuid),
	}));
}

function whyReleased(command: CommandOf<"release">): StillpointError {
	const { error } = command;
	if (error === undefined) return new StillpointError("snapshot-failed", "the asker let go without a snapshot");
	return new StillpointError(error.code, error.message, { details: error.details ?? {} });
}
