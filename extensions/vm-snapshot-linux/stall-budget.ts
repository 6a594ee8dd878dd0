/** How long writers will be stopped, before they are: told in the report, and held against the order's budget. */
import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../contracts/errors.ts";
import { predictStallMs } from "../../platform/linux/predict-stall.ts";
import { isExpedited } from "../../platform/linux/rcu-expedited.ts";
import { untilAborted } from "./abort-reasons.ts";
import type { Job } from "./job.ts";

/** Of what is left of `prepareLimitMs`: the rest is for the scripts and the last sync. */
const waitShare = 0.8;
const firstPauseMs = 250;
const longestPauseMs = 5_000;
/** Each sync writes, which others feel: most of the time none runs. */
const pausePerSync = 4;

type Known = Pick<Job, "record" | "host">;

/** Undefined: nothing will be frozen. */
export function predictStall({ record, host }: Known): number | undefined {
	return record.plan === undefined ? undefined : predict({ record, host }, record.lastSyncMs);
}

function predict({ record, host }: Known, writeOutMs: ReadonlyMap<string, number>): number {
	const targets = record.plan?.targets ?? [];
	return predictStallMs({
		fileSystems: targets.map(({ superblock, level }) => ({ level, writeOutMs: writeOutMs.get(superblock) ?? 0 })),
		expedited: (host.request.expedited ?? true) || isExpedited(),
		snapshotMs: record.predictedMs,
	});
}

/**
 * Waits for a moment in which the budget is enough, before any script has run: `sync` is made again and again, with
 * pauses in between, as long as the order allows. Without a budget at once.
 * @throws `stall-too-long`: nothing was frozen, and no script was started.
 */
export async function waitForQuietMoment(job: Job, sync: () => Promise<void>, signal: AbortSignal): Promise<void> {
	const { host, record, clock } = job;
	const { stallBudgetMs, order } = host.request;
	if (stallBudgetMs === undefined) return;
	const prepareLeftMs = order.prepareLimitMs - (clock.nowMs() - record.startedAtMs);
	const limitMs = Math.min(order.stall?.waitMs ?? 0, prepareLeftMs * waitShare);
	const untilMs = clock.nowMs() + limitMs;
	for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(longestPauseMs, pauseMs * 2)) {
		const beganMs = clock.nowMs();
		await sync();
		const nowMs = clock.nowMs();
		if ((predictStall(job) ?? 0) <= stallBudgetMs) return;
		const restMs = Math.max(pauseMs, (nowMs - beganMs) * pausePerSync);
		// What the snapshot alone takes no waiting makes shorter.
		if (predict(job, new Map()) > stallBudgetMs || nowMs + restMs > untilMs) requireWithinBudget(job);
		await untilAborted(sleep(restMs), signal);
	}
}

/** @throws `stall-too-long` */
export function requireWithinBudget(job: Known): void {
	const { stallBudgetMs } = job.host.request;
	const predictedMs = predictStall(job);
	if (stallBudgetMs === undefined || predictedMs === undefined || predictedMs <= stallBudgetMs) return;
	throw stallTooLong(job, predictedMs, stallBudgetMs);
}

/** The freeze itself took longer than the budget, and was taken back. */
export function freezeTooLong(budgetMs: number, cause: StillpointError): StillpointError {
	const what = `the freeze was not complete within the ${budgetMs} ms that writers may be stopped, and was undone`;
	return new StillpointError("stall-too-long", `${what}: ${cause.message}`, { cause, details: { budgetMs } });
}

function stallTooLong({ record }: Known, predictedMs: number, budgetMs: number): StillpointError {
	const [slowest, syncMs = 0] = [...record.lastSyncMs].sort(([, a], [, b]) => b - a)[0] ?? [];
	const mountPoint = record.plan?.targets.find(({ superblock }) => superblock === slowest)?.mountPoint;
	const snapshotMs = record.predictedMs ?? 0;
	const parts = [
		...(snapshotMs > 0 ? [`${Math.ceil(snapshotMs)} ms for the snapshot itself`] : []),
		...(mountPoint === undefined ? [] : [`the last sync of ${mountPoint} took ${Math.ceil(syncMs)} ms`]),
	];
	const help =
		snapshotMs > budgetMs
			? "only a faster snapshot or a larger budget helps"
			: "a quieter moment, fewer disks at a time or a larger budget helps";
	const why = parts.length === 0 ? "" : ` (${parts.join(", ")})`;
	return new StillpointError(
		"stall-too-long",
		`writers would be stopped for about ${Math.ceil(predictedMs)} ms${why}, allowed are ${budgetMs} ms: ${help}`,
		{ details: { predictedStallMs: Math.ceil(predictedMs), budgetMs, snapshotMs, syncMs: Math.ceil(syncMs) } },
	);
}
