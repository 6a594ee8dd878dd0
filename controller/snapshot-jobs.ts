import { randomBytes } from "node:crypto";
import type { z } from "zod";
import type { ControllerJob, snapshotRequestBodySchema } from "../contracts/controller-messages.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import { type Level, lowest } from "../contracts/level.ts";
import { type Order, orderSchema } from "../contracts/order.ts";
import type { Report } from "../contracts/report.ts";
import { offline } from "./agent-link.ts";
import type { AgentLinks } from "./agent-links.ts";
import { startDeadline } from "./deadline.ts";
import { parseFields } from "./field-issue.ts";
import type { HoldLimits } from "./hold.ts";
import { type LiveJob, makeLiveJob } from "./live-job.ts";
import type { Log } from "./log.ts";
import type { SnapshotProvider } from "./providers/provider.ts";
import type { RecoveryPointFolders } from "./recovery-points.ts";
import { runSnapshotJob } from "./snapshot-job.ts";
import type { Store, StoredAgent, StoredJob } from "./store.ts";

export type SnapshotJobs = AsyncDisposable & {
	/** Starts a job and answers with it; a repeated id with the same body is answered with the job that there is. */
	order(agentId: string, body: SnapshotRequest): Promise<ControllerJob>;
	/** `job-unknown` when there is none. */
	read(jobId: string): Promise<ControllerJob>;
	/** Newest first, without reports. */
	list(): Promise<ControllerJob[]>;
	/** From memory, without reports. */
	listRunning(): ControllerJob[];
	/** Waits until the job is in another state than `state` (without one: until it has ended), at most `waitMs`. */
	readWhenChanged(
		jobId: string,
		waitMs: number,
		state: string | undefined,
		signal: AbortSignal,
	): Promise<ControllerJob>;
	/** Begins the undoing and answers at once; no effect on a job that has ended. */
	cancel(jobId: string): Promise<ControllerJob>;
	/**
	 * Stores it; a second one for the same job, or one for no job of the agent, has no effect. Resolves when it may be
	 * acknowledged, with the report that counts: the first.
	 */
	recordReport(agentId: string, sequence: number, report: Report): Promise<Report>;
};

export type SnapshotJobsParts = {
	readonly store: Store;
	/** A function, because hub and jobs need each other. */
	readonly links: () => Pick<AgentLinks, "isConnected" | "openChannel">;
	readonly folders: RecoveryPointFolders;
	readonly provider: SnapshotProvider;
	readonly limits: HoldLimits;
	readonly log: Log;
	/** Called at every change, also while a machine is frozen: it must neither wait nor write. */
	readonly onChange: (job: StoredJob["job"]) => void;
	/** Called once for every job, after its end was stored. */
	readonly onEnd: (job: StoredJob["job"]) => Promise<void>;
};

type Running = { readonly live: LiveJob; readonly abort: AbortController; readonly end: Promise<void> };
type SnapshotRequest = z.output<typeof snapshotRequestBodySchema>;

const listLimit = 1_000;

export function makeSnapshotJobs(parts: SnapshotJobsParts): SnapshotJobs {
	const { store, log } = parts;
	/** By agent: one job at a time for each. */
	const running = new Map<string, Running>();
	const state = { stopping: false };
	const findRunning = (jobId: string) => [...running.values()].find(({ live }) => live.stored.job.jobId === jobId);

	async function show({ job, agentJobIds }: StoredJob): Promise<ControllerJob> {
		const report = await store.findReport(job.agentId, agentJobIds.at(-1) ?? job.jobId);
		return { ...job, ...(report === undefined ? {} : { report }) };
	}

	async function read(jobId: string): Promise<ControllerJob> {
		const stored = findRunning(jobId)?.live.stored ?? (await store.findJob(jobId));
		if (stored === undefined) throw new StillpointError("job-unknown", `no job ${jobId}`);
		return show(stored);
	}

	function repeat(known: StoredJob, agentId: string, request: string): Promise<ControllerJob> {
		const { jobId } = known.job;
		if (known.job.agentId !== agentId || known.request !== request)
			throw new StillpointError("job-conflict", `job ${jobId} was another order before`, { details: { jobId } });
		return show(findRunning(jobId)?.live.stored ?? known);
	}

	async function order(agentId: string, asked: SnapshotRequest): Promise<ControllerJob> {
		const agent = await store.findAgent(agentId);
		if (agent === undefined) throw new StillpointError("not-found", `no agent ${agentId}`);
		const acceptLevel = asked.acceptLevel ?? lowest(["file-system", asked.level], "crash");
		const { jobId = newJobId(), ...body } = { ...asked, acceptLevel };
		const request = JSON.stringify(body, Object.keys(body).sort().concat("include", "exclude", "budgetMs", "waitMs"));
		const known = await store.findJob(jobId);
		if (known !== undefined) return repeat(known, agentId, request);
		const asOrder = makeOrder(jobId, body, agent, parts.limits.startWithinMs);
		if (state.stopping) throw new StillpointError("stopping", "the controller is stopping");
		const busy = running.get(agentId)?.live.stored.job.jobId;
		if (busy !== undefined)
			throw new StillpointError("job-running", `agent ${agentId} runs job ${busy}`, { details: { jobId: busy } });
		if (!parts.links().isConnected(agentId)) throw offline(agentId);

		const job = { jobId, agentId, state: "ordered" as const, orderedAt: new Date().toISOString() };
		const stored: StoredJob = { job, request, agentJobIds: [jobId] };
		const live = makeLiveJob(stored, store, log, parts.onChange);
		const abort = new AbortController();
		// Before the first wait: nobody else may begin a job of this agent.
		const added = store.addJob(stored);
		const end = added.then((isNew) => (isNew ? run(live, asOrder, agent, abort.signal) : undefined));
		running.set(agentId, { live, abort, end: end.catch(() => undefined).finally(() => running.delete(agentId)) });
		if (!(await added)) return repeat((await store.findJob(jobId)) as StoredJob, agentId, request);
		return show(live.stored);
	}

	async function run(live: LiveJob, asOrder: Order, agent: StoredAgent, signal: AbortSignal): Promise<void> {
		const { folders, provider, limits } = parts;
		try {
			const links = parts.links();
			await runSnapshotJob({ job: live, order: asOrder, agent, folders, provider, limits, links, log, signal });
		} catch (error) {
			log.error("snapshot job broke", { jobId: asOrder.jobId, error: asStillpointError(error).toJSON() });
		}
		await parts.onEnd(live.stored.job);
	}

	/** Of a job that has ended, which nobody else writes: what was read while it ran is too old to be stored. */
	async function noteLevel(jobId: string, report: Report): Promise<void> {
		const ended = await store.findJob(jobId);
		if (ended?.agentJobIds.at(-1) !== report.jobId || ended.job.recoveryPointId !== undefined) return;
		const job = { ...ended.job, level: report.achieved };
		await store.saveJob({ ...ended, job });
		parts.onChange(job);
	}

	return {
		order,
		read,
		list: async () =>
			(await store.listJobs(listLimit)).map(({ job }) => findRunning(job.jobId)?.live.stored.job ?? job),
		listRunning: () => [...running.values()].filter(({ live }) => !live.ended).map(({ live }) => live.stored.job),
		async readWhenChanged(jobId, waitMs, seen, signal) {
			using deadline = startDeadline(waitMs, "a change of the job", [signal]);
			for (;;) {
				const live = findRunning(jobId)?.live;
				const isNews = live === undefined || live.ended || (seen !== undefined && live.stored.job.state !== seen);
				if (isNews || deadline.signal.aborted) return read(jobId);
				await live.changed(deadline.signal);
			}
		},
		async cancel(jobId) {
			findRunning(jobId)?.abort.abort(new StillpointError("cancelled", `job ${jobId} was cancelled by an operator`));
			return read(jobId);
		},
		async recordReport(agentId, sequence, report) {
			const known = await store.findJobOfAgent(agentId, report.jobId);
			// Not ours, so of no use here; and stored, such reports would let one agent fill the disk.
			if (known === undefined) {
				log.warn("report of an unknown job", { agentId, jobId: report.jobId.slice(0, 64) });
				return report;
			}
			if (!(await store.addReport(agentId, sequence, report)))
				return (await store.findReport(agentId, report.jobId)) ?? report;
			const live = findRunning(known.job.jobId)?.live;
			if (live !== undefined && !live.ended) live.note({ level: report.achieved });
			else await noteLevel(known.job.jobId, report);
			return report;
		},
		async [Symbol.asyncDispose]() {
			state.stopping = true;
			for (const { abort } of running.values())
				abort.abort(new StillpointError("stopping", "the controller is stopping"));
			await Promise.all([...running.values()].map(({ end }) => end));
		},
	};
}

/**
 * For the start: what an earlier life left open. A job whose manifest was written is done; every other one failed
 * as `interrupted`, and its images are removed.
 */
export async function closeOpenJobs(
	store: Store,
	folders: RecoveryPointFolders,
	log: Log,
	onEnd: SnapshotJobsParts["onEnd"],
): Promise<void> {
	const whole = await folders.removeUnfinished();
	const endedAt = new Date().toISOString();
	for (const stored of await store.listOpenJobs()) {
		const { jobId, agentId } = stored.job;
		const found = whole.find((one) => one.jobId === jobId && one.agentId === agentId);
		if (found !== undefined) {
			const { id, level, createdAt } = found;
			const job = { ...stored.job, state: "done" as const, endedAt, recoveryPointId: id, level };
			await store.saveJob({ ...stored, job }, { id, agentId, jobId, createdAt });
			await onEnd(job);
		} else {
			const error = new StillpointError("interrupted", "the controller ended during the job");
			const job = { ...stored.job, state: "failed" as const, endedAt, error: error.toJSON() };
			await store.saveJob({ ...stored, job });
			await onEnd(job);
		}
		log.warn("open job closed", { jobId, agentId, state: found === undefined ? "failed" : "done" });
	}
}

function makeOrder(
	jobId: string,
	{ disks, ...body }: Omit<SnapshotRequest, "acceptLevel" | "jobId"> & { acceptLevel: Level },
	agent: StoredAgent,
	startWithinMs: number,
): Order {
	if (agent.disks.length === 0)
		throw new StillpointError("disk-not-mapped", `no disk of agent ${agent.agentId} is mapped`);
	const selection = disks ?? { include: agent.disks.map(({ name }) => name) };
	return parseFields(
		orderSchema,
		{ ...body, jobId, startWithinMs, disks: selection, snapshot: "reported" },
		"order-invalid",
	);
}

function newJobId(): string {
	return `job-${new Date().toISOString().replaceAll(/\D/g, "").slice(0, 14)}-${randomBytes(4).toString("hex")}`;
}
