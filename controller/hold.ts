import { performance } from "node:perf_hooks";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import type { HoldCommand, SnapshotOutcome } from "../contracts/hold-protocol.ts";
import type { Level } from "../contracts/level.ts";
import type { Order } from "../contracts/order.ts";
import type { RecoveryPointDisk } from "../contracts/recovery-point.ts";
import type { Report } from "../contracts/report.ts";
import type { AgentWord, UnreadableReport } from "./agent-link.ts";
import type { AgentLinks } from "./agent-links.ts";
import { raceSignal, startDeadline } from "./deadline.ts";
import { mapDisks, requirePlanned } from "./disk-mapping.ts";
import { errorOnWire } from "./error-on-wire.ts";
import { fitsHold, takeMarginMs } from "./hold-margin.ts";
import type { JobChannel } from "./job-channels.ts";
import type { LiveJob } from "./live-job.ts";
import type { Log } from "./log.ts";
import type { PreparedSnapshot, SnapshotProvider, TakenDisk } from "./providers/provider.ts";
import type { DiskMapping } from "./store.ts";

export type HoldLimits = {
	/** So long the agent may let the order wait for its turn before it answers. */
	readonly startWithinMs: number;
	/** Order sent to its answer, besides that. */
	readonly answerMs: number;
	/** `done` sent to the report: the agent's post-scripts run in it. */
	readonly reportMs: number;
	/** An agent that came back without the job says so long after it how the job ended; else nobody knows any more. */
	readonly returnedMs: number;
	/** A job that failed after `freeze` waits so long to hear that nothing is frozen any more. */
	readonly lateReportMs: number;
	/** It waits so long for the agent's report, to show it; a late one is added to the job anyway. */
	readonly shownReportMs: number;
	/** A stopping controller waits so long to hear that the agent let go. */
	readonly stoppingMs: number;
};

export const holdLimits: HoldLimits = {
	startWithinMs: 60_000,
	answerMs: 10_000,
	reportMs: 2_400_000,
	returnedMs: 60_000,
	lateReportMs: 15_000,
	shownReportMs: 2_000,
	stoppingMs: 2_000,
};

/** Added to what the agent was granted, for messages on the way. */
const graceMs = 5_000;

export type Hold = {
	readonly links: Pick<AgentLinks, "openChannel">;
	readonly provider: SnapshotProvider;
	readonly limits: HoldLimits;
	readonly log: Log;
	readonly job: LiveJob;
	readonly order: Order;
	readonly mappings: readonly DiskMapping[];
	/** Empty, for the images. */
	readonly folder: string;
	/** The reason is a `StillpointError`: `cancelled` or `stopping`. */
	readonly signal: AbortSignal;
};

export type TakenImages = {
	readonly disks: RecoveryPointDisk[];
	readonly report: Report;
	/** The level that was ordered of the agent: no label is above it. */
	readonly ordered: Level;
};

/**
 * What the agent must be told when the job fails at this point. It listens for `release` where it waits for us, and
 * for `cancel` always.
 */
type Owed = "cancel" | "release" | "cancel-if-asked" | "nothing";
type Talk = Hold & { readonly channel: JobChannel; readonly progress: { owed: Owed; mayBeFrozen: boolean } };
type Frozen = {
	readonly prepared: PreparedSnapshot;
	readonly leftMs: number;
	/** The agent wants to hear of each disk. */
	readonly perDisk: boolean;
};

/**
 * One order by the hold protocol, from `order` to the report: when it resolves the images lie safely in the folder,
 * and the report is the agent's verdict on them. Whatever fails before `done`: the agent is told first, before
 * anything here is undone.
 */
export async function takeUnderHold(hold: Hold): Promise<TakenImages> {
	using channel = hold.links.openChannel(hold.job.stored.job.agentId, hold.order.jobId);
	await using undo = new AsyncDisposableStack();
	const talk: Talk = { ...hold, channel, progress: { owed: "cancel", mayBeFrozen: false } };
	try {
		const frozen = await reachFrozen(talk, undo);
		await takeInWindow(talk, frozen);
		return await describeAndAwaitReport(talk, frozen.prepared);
	} catch (error) {
		const failure = asStillpointError(error);
		letGo(talk, failure);
		throw await awaitEnd(talk, failure);
	}
}

async function reachFrozen(talk: Talk, undo: AsyncDisposableStack): Promise<Frozen> {
	const { job, order, limits, provider, mappings, folder, channel, progress } = talk;
	const stop = [talk.signal, channel.lost];
	const orderedAtMs = performance.now();
	channel.send({ type: "order", order });
	await expectAccepted(talk, order.startWithinMs + limits.answerMs, stop);
	job.setState("preparing");

	const limitMs = order.prepareLimitMs + order.holdLimitMs + graceMs;
	using deadline = startDeadline(limitMs, "the agent's preparation", stop);
	const planned = await expectWord(talk, "prepared", deadline.signal);
	progress.owed = "release";
	requirePlanned(order.disks, planned.disks);
	const holdLimitMs = Math.min(planned.holdLimitMs, order.holdLimitMs);
	const preparing = provider.prepare({ folder, disks: mapDisks(planned.disks, mappings), signal: deadline.signal });
	undo.defer(async () => (await preparing.catch(() => undefined))?.[Symbol.asyncDispose]());
	const prepared = await raceSignal(preparing, deadline.signal);
	const { predictedMs } = prepared;
	if (!fitsHold(predictedMs, holdLimitMs)) {
		const details = { predictedMs: Math.ceil(predictedMs), holdLimitMs };
		const what = `the copy is predicted to take ${details.predictedMs} ms, the hold is ${holdLimitMs} ms`;
		throw new StillpointError("copy-too-slow", what, { details });
	}

	throwIfReported(talk, channel.find(["report", "unreadable-report"]));
	if (channel.find(["frozen"]) !== undefined)
		throw new StillpointError("message-invalid", 'the agent said "frozen" before it was told to freeze');
	job.setState("freezing");
	progress.owed = "cancel";
	progress.mayBeFrozen = true;
	channel.send({ type: "freeze", jobId: order.jobId, predictedMs });
	const { leftMs, worth } = await expectWord(talk, "frozen", deadline.signal);
	progress.owed = "release";
	// Where nothing is frozen there is nothing to time.
	if (worth !== "crash") job.note({ orderToFrozenMs: performance.now() - orderedAtMs });
	return { prepared, leftMs: Math.min(leftMs, holdLimitMs), perDisk: planned.perDisk === true && worth !== "crash" };
}

async function expectAccepted({ channel, order, progress }: Talk, limitMs: number, stop: AbortSignal[]): Promise<void> {
	using deadline = startDeadline(limitMs, "the agent's answer to the order", stop);
	const answer = await channel.next(["accepted", "refused"], deadline.signal);
	if (answer.type === "accepted" && !answer.repeated) return;
	progress.owed = "nothing";
	if (answer.type === "accepted")
		throw new StillpointError("job-conflict", `the agent ran a job ${order.jobId} before`);
	const { code, message, details = {} } = answer.error;
	throw new StillpointError(code, `the agent refused: ${message}`, { details });
}

/** Nothing in here but the copies: no store, no log, no file that was not opened before. */
async function takeInWindow({ job, order, channel, signal, progress, provider }: Talk, frozen: Frozen): Promise<void> {
	const { prepared, leftMs, perDisk } = frozen;
	const limitMs = Math.max(1, leftMs - takeMarginMs(leftMs));
	using deadline = startDeadline(limitMs, "the copies", [signal, channel.lost], "hold-expired");
	job.setState("taking");
	const tell = (disk: TakenDisk): SnapshotOutcome => {
		return { name: disk.name, ok: true, snapshotId: disk.snapshotId, provider: provider.name };
	};
	const onTaken = (disk: TakenDisk) => {
		if (perDisk && !deadline.signal.aborted) channel.send({ type: "taken", jobId: order.jobId, disk: tell(disk) });
	};
	const outcomes = await raceSignal(prepared.take(deadline.signal, onTaken), deadline.signal);
	const disks: SnapshotOutcome[] = [];
	for (const outcome of outcomes) {
		if (!outcome.ok) throw new StillpointError(outcome.code, outcome.error);
		disks.push(tell(outcome));
	}
	channel.send({ type: "done", jobId: order.jobId, disks });
	progress.owed = "cancel-if-asked";
}

async function describeAndAwaitReport(talk: Talk, prepared: PreparedSnapshot): Promise<TakenImages> {
	const { job, order, channel, signal, limits, log } = talk;
	using returned = watchReturn(limits.returnedMs);
	using deadline = startDeadline(limits.reportMs, "the agent's report", [signal, returned.signal]);
	const described: { command?: HoldCommand } = {};
	channel.onReturn = (runs) => {
		returned.note(runs);
		if (runs && described.command !== undefined) channel.send(described.command);
	};
	job.setState("thawing");
	const disks = await prepared.describe(deadline.signal).catch((error) => {
		deadline.signal.throwIfAborted();
		log.warn("images not described", { jobId: order.jobId, reason: String(error) });
		return [];
	});
	described.command = { type: "described", jobId: order.jobId, disks };
	channel.send(described.command);
	const kept = await prepared.keep(deadline.signal);
	for (;;) {
		const word = await channel.next(["stuck", "thawed", "report", "unreadable-report"], deadline.signal);
		throwIfUnreadable(talk, word);
		if (word.type === "report") return { disks: kept, report: word.report, ordered: order.level };
		if (word.type === "stuck") noteStuck(talk, word);
		else {
			job.note({ error: undefined });
			job.setState("reporting");
		}
	}
}

/**
 * An agent that comes back without the job has ended it, so that its report is on its way; or it lost what it knew, and
 * then its next order must not wait for it.
 */
function watchReturn(limitMs: number): Disposable & { readonly signal: AbortSignal; note(runs: boolean): void } {
	const forgotten = new AbortController();
	const what = `the agent came back without the job, and without its report for ${limitMs} ms`;
	let timer: NodeJS.Timeout | undefined;
	return {
		signal: forgotten.signal,
		note(runs) {
			clearTimeout(timer);
			if (!runs) timer = setTimeout(() => forgotten.abort(new StillpointError("interrupted", what)), limitMs);
		},
		[Symbol.dispose]: () => clearTimeout(timer),
	};
}

/** The word, or the error of the report with which the agent ended the job instead. */
async function expectWord<T extends "prepared" | "frozen">(
	talk: Talk,
	type: T,
	signal: AbortSignal,
): Promise<Extract<AgentWord, { type: T }>> {
	for (;;) {
		const word: AgentWord = await talk.channel.next([type, "stuck", "report", "unreadable-report"], signal);
		throwIfReported(talk, word);
		if (word.type !== "stuck") return word as Extract<AgentWord, { type: T }>;
		noteStuck(talk, word);
	}
}

/** Shown at once: how the job ends may take as long as the agent's kernel likes. It is told again and again. */
function noteStuck({ job }: Talk, { error }: Extract<AgentWord, { type: "stuck" }>): void {
	if (job.stored.job.error?.message !== error.message) job.note({ error });
}

function throwIfReported(talk: Talk, word: AgentWord | undefined): void {
	throwIfUnreadable(talk, word);
	if (word?.type !== "report") return;
	talk.progress.owed = "nothing";
	throw errorOfReport(word.report, "the agent ended the job before the snapshot");
}

/** The agent has ended the job, and what it says of it is lost. */
function throwIfUnreadable(
	{ progress }: Talk,
	word: AgentWord | undefined,
): asserts word is Exclude<AgentWord, UnreadableReport> {
	if (word?.type !== "unreadable-report") return;
	progress.owed = "nothing";
	throw word.error;
}

export function errorOfReport({ error, because }: Report, otherwise: string): StillpointError {
	if (error === undefined) return new StillpointError("snapshot-failed", otherwise, { details: { because } });
	return new StillpointError(error.code, error.message, { details: { because } });
}

/** Tells the agent that it may thaw. Runs to its end in the turn in which the failure is seen. */
function letGo({ channel, order: { jobId }, progress, limits, log, job }: Talk, failure: StillpointError): void {
	const { owed } = progress;
	const asked = failure.code === "cancelled" || failure.code === "stopping" ? failure.code : undefined;
	if (owed === "nothing" || channel.lost.aborted) return;
	if (asked !== undefined) channel.send({ type: "cancel", jobId, code: asked });
	else if (owed === "release") channel.send({ type: "release", jobId, error: errorOnWire(failure) });
	else if (owed === "cancel") channel.send({ type: "cancel", jobId, code: "asker-lost" });
	job.setState("thawing");
	log.debug("agent let go", { jobId, code: failure.code, limitMs: limits.lateReportMs });
}

/** Waits a while for what the agent says to the end; only "still frozen" outranks our own failure. */
async function awaitEnd(talk: Talk, failure: StillpointError): Promise<StillpointError> {
	const { channel, progress, limits, job } = talk;
	if (progress.owed === "nothing" || channel.lost.aborted) return failure;
	const stopping = failure.code === "stopping";
	let worst = failure;
	let limitMs = progress.mayBeFrozen ? limits.lateReportMs : limits.shownReportMs;
	if (stopping) limitMs = limits.stoppingMs;
	try {
		for (;;) {
			using deadline = startDeadline(limitMs, "the end", [channel.lost]);
			const word = await channel.next(["stuck", "thawed", "report", "unreadable-report", "refused"], deadline.signal);
			if (word.type === "stuck") {
				worst = new StillpointError(word.error.code, word.error.message, { cause: failure });
				noteStuck(talk, word);
			} else if (word.type !== "thawed" || stopping) return word.type === "thawed" ? failure : worst;
			else {
				worst = failure;
				job.note({ error: undefined });
				job.setState("reporting");
				limitMs = limits.shownReportMs;
			}
		}
	} catch {
		return worst;
	}
}
