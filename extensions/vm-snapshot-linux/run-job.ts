/**
 * One snapshot job from its request to its report: straight-line code beside the table of phases (`jobPhases`). What
 * is acquired is undone from a stack, in reverse, whatever happens; cancel, deadline and a lost host come by one door.
 */
import { asStillpointError, type ErrorCode, StillpointError, worstError } from "../../contracts/errors.ts";
import type { ExtensionEvent } from "../../contracts/extension.ts";
import { atLeast, type Level } from "../../contracts/level.ts";
import { becauseTexts } from "../../contracts/report.ts";
import type { CommandOf, SnapshotHost } from "../kit/run-snapshot-command.ts";
import { deadlineSignal, untilAborted } from "./abort-reasons.ts";
import { foreseeLevel, judge } from "./consistency-verdict.ts";
import { FrozenWindow } from "./frozen-window.ts";
import { JobPhaseWalk } from "./job-phase-walk.ts";
import { judgeFailure } from "./judge-failure.ts";
import { lookAgain } from "./look-again.ts";
import { planJob } from "./plan-job.ts";
import { type PreparedFileSystems, prepareFileSystems } from "./prepare-file-systems.ts";
import { pruneRunFolder } from "./prune-run-folder.ts";
import { publishReport } from "./publish-report.ts";
import { prepareApplications } from "./script-runner/prepare-applications.ts";
import type { StartedJob } from "./started-job.ts";
import { countWritesBefore, type WriteCounts } from "./still-file-systems.ts";
import { syncWhileItPays } from "./sync-file-systems.ts";

const quietLimitMs = 2_000;
const describedLimitMs = 30_000;
const stillLimitMs = 5_000;
/** Failures of the freeze after which a job that accepts level crash goes on without one. */
const degradable: readonly ErrorCode[] = [
	"nothing-to-freeze",
	"freeze-failed",
	"freeze-late",
	"foreign-freeze",
	"freezer-died",
	"exclusive-operation",
	"write-probe-stuck",
];

type Job = StartedJob & {
	readonly host: SnapshotHost;
	readonly phases: JobPhaseWalk;
	readonly undo: AsyncDisposableStack;
};

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
	await sendPrepared(job);
	phases.advance("prepared");
	const go = await host.commands.wait(["freeze", "release"], preparing);
	if (go.type === "release") throw whyReleased(go);

	phases.advance("scripts");
	if (record.applications !== undefined) {
		const applications = record.applications;
		job.undo.defer(() => applications.resume("no-snapshot"));
		await applications.quiet(preparing);
	}
	if (prepared !== undefined) {
		const { folders } = prepared.held;
		await syncWhileItPays(folders, calls, {
			clock,
			signal: preparing,
			onSync: (superblock, syncMs) => record.syncMs.set(superblock, syncMs),
		});
	}
	const counts = await countWritesBefore(plan.maybeStill, calls, AbortSignal.timeout(stillLimitMs)).catch(
		(): WriteCounts => new Map(),
	);
	preparing.throwIfAborted();
	limit[Symbol.dispose]();

	phases.advance("freezing");
	const frozenWindow = prepared === undefined ? undefined : await makeWindow(job, prepared);
	const command = await waitWhileHeld(job, frozenWindow);
	const thawing = frozenWindow?.thaw();
	phases.advance("thawing");
	await thawing;
	if (frozenWindow !== undefined) record.thawedAt = clock.utcNow();
	tellThawed(job);
	if (phases.phase === "thawing") phases.advance("post");

	// Markers and the second look take their time while the asker reads what its images carry.
	const removing = prepared?.markers.remove();
	const taken = record.outcomes?.some(({ ok }) => ok) === true;
	await record.applications?.resume(taken ? "snapshot" : "no-snapshot");
	await Promise.all([lookAgain(job, counts), taken ? waitForDescription(job) : undefined, removing]);
	if (command.type === "release" && (order.snapshot === "reported" || command.error !== undefined)) {
		throw whyReleased(command);
	}
}

/** Level and what is accepted are compared before anything is touched. */
function requireReachable({ record }: Job): void {
	const { order } = record.request;
	const evidence = record.evidence();
	const bad = record.badDropIns.find(({ onFailure }) => onFailure === "fail");
	if (bad !== undefined) throw bad.error;
	const reachable = foreseeLevel(evidence);
	if (atLeast(reachable, order.acceptLevel)) {
		if (record.plan?.targets.length !== 0 || order.acceptLevel === "crash") return;
		throw new StillpointError("nothing-to-freeze", "no file system lies on the disks of the order");
	}
	// What the verdict would say if all went well from here.
	const { because } = judge({ ...evidence, window: { fromMs: 0, untilMs: 0 }, lookedAgain: true, fileSystems: [] });
	const known = because.filter((word) => word !== "evidence-lost" && word !== "snapshot-not-taken");
	throw new StillpointError(
		"level-unreachable",
		`${reachable} at best: ${known.map((word) => becauseTexts[word]).join(" ")}`,
		{ details: { reachable, because: known } },
	);
}

async function prepareToFreeze(job: Job, signal: AbortSignal): Promise<PreparedFileSystems | undefined> {
	const { record, freezer, clock, undo } = job;
	if (freezer === undefined || record.plan === undefined) return undefined;
	if (record.plan.targets.length === 0) {
		throw new StillpointError("nothing-to-freeze", "no file system lies on the disks of the order");
	}
	return prepareFileSystems(record.plan, { record, freezer, calls: await job.calls, clock, signal, undo });
}

async function sendPrepared({ host, record }: Job): Promise<void> {
	const { order, holdLimitMs } = host.request;
	const { jobId } = order;
	if (order.level !== "crash") await host.send({ type: "targets", jobId, targets: [...(record.plan?.targets ?? [])] });
	const disks = (record.plan?.disks ?? [])
		.filter(({ included }) => included)
		.map(({ name, serial, sizeBytes, fileSystemUuids }) => ({
			name,
			...(serial === undefined ? {} : { serial }),
			sizeBytes,
			fileSystemUuids: [...fileSystemUuids],
		}));
	await host.send({ type: "prepared", jobId, disks, holdLimitMs });
}

/** Freezes. Undefined: it could not, everything is thawed again, and the order accepts to go on without. */
async function makeWindow(job: Job, { held }: PreparedFileSystems): Promise<FrozenWindow | undefined> {
	const { host, record, freezer, clock, undo } = job;
	const { order, holdLimitMs } = host.request;
	const { jobId } = order;
	if (freezer === undefined) return undefined;
	record.applications?.lost.throwIfAborted();
	const frozenWindow = new FrozenWindow({
		jobId,
		freezer,
		folders: held.folders,
		calls: await job.calls,
		answers: record.answers,
		clock,
		onStuck: (mountPoints) => tellStuck(job, mountPoints),
	});
	{
		using quiet = deadlineSignal(quietLimitMs, () => {
			return new StillpointError("deadline-passed", `the host was not quiet within ${quietLimitMs} ms`);
		});
		undo.defer(() => tellThawed(job));
		await host.send({ type: "freezing", jobId, holdLimitMs, freezerPid: freezer.identity.pid });
		await host.commands.wait(["quiet"], AbortSignal.any([host.ending, quiet.signal]));
	}
	undo.defer(() => frozenWindow.thaw());
	return unlessDegraded(job, async () => {
		record.freezingAtMs = clock.nowMs();
		record.frozenAt = clock.utcNow();
		try {
			const freezing = frozenWindow.freeze({ holdLimitMs, freezeLimitMs: Math.max(50, Math.floor(holdLimitMs / 2)) });
			await untilAborted(freezing, host.ending);
			return frozenWindow;
		} catch (error) {
			await frozenWindow.thaw();
			throw error;
		}
	});
}

/** Tells `frozen`, and waits until the asker has its snapshot, lets go, or the hold ends in another way. */
async function waitWhileHeld(
	job: Job,
	frozenWindow: FrozenWindow | undefined,
): Promise<CommandOf<"done"> | CommandOf<"release">> {
	const { host, record, phases, clock } = job;
	const { order, holdLimitMs } = host.request;
	const { jobId } = order;
	const spentMs = record.freezingAtMs === undefined ? 0 : clock.nowMs() - record.freezingAtMs;
	const leftMs = Math.max(0, holdLimitMs - spentMs);
	using limit = deadlineSignal(
		leftMs,
		() => new StillpointError("hold-expired", `no snapshot within ${holdLimitMs} ms`),
	);
	const ends = [host.ending, frozenWindow?.ended ?? limit.signal];
	if (record.applications !== undefined) ends.push(record.applications.lost);
	const worth: Level = frozenWindow === undefined ? "crash" : foreseeLevel(record.evidence());
	const fromMs = clock.nowMs();
	record.window = { fromMs, untilMs: fromMs };
	phases.advance("frozen");
	try {
		const told = host.send({ type: "frozen", jobId, leftMs, worth });
		const waiting = host.commands.wait(["done", "release"], AbortSignal.any(ends));
		const command = await Promise.race([waiting, told.then(() => waiting)]);
		if (command.type === "done") record.outcomes = command.disks;
		return command;
	} finally {
		record.window = { fromMs, untilMs: clock.nowMs() };
	}
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

/** What fails here fails the job, unless the order accepts level crash and the failure leaves that possible. */
async function unlessDegraded<T>({ host, record }: Job, work: () => Promise<T>): Promise<T | undefined> {
	try {
		return await work();
	} catch (thrown) {
		const error = asStillpointError(thrown);
		if (host.ending.aborted || host.request.order.acceptLevel !== "crash") throw error;
		if (!degradable.includes(error.code)) throw error;
		record.degraded = error;
		return undefined;
	}
}

function whyReleased(command: CommandOf<"release">): StillpointError {
	const { error } = command;
	if (error === undefined) return new StillpointError("snapshot-failed", "the asker let go without a snapshot");
	return new StillpointError(error.code, error.message, { details: error.details ?? {} });
}

/** Told on the way; a host that is gone comes by its own door. */
function tell(host: SnapshotHost, event: ExtensionEvent): void {
	host.send(event).catch(() => undefined);
}

/** The host writes to its disks again from here. */
function tellThawed({ host, record }: Job): void {
	if (record.thawedTold) return;
	record.thawedTold = true;
	tell(host, { type: "thawed", jobId: host.request.order.jobId });
}

function tellStuck({ host, phases }: Job, mountPoints: string[]): void {
	const { jobId } = host.request.order;
	const error = new StillpointError("stuck", `may still be frozen: ${mountPoints.join(", ")}`, {
		details: { command: "stillpoint thaw" },
	});
	if (phases.phase !== "stuck") {
		phases.undo();
		if (phases.phase === "undoing" || phases.phase === "thawing") phases.advance("stuck");
	}
	tell(host, { type: "stuck", jobId, fileSystems: mountPoints, error: error.toJSON() });
}
