/**
 * What is known of jobs, in memory, so that status, lists and reports are answered while disks are frozen; and behind
 * it the journal, written through the write hold. A report that the journal cannot take is kept in memory and in
 * `<run>/reports` until it can: nothing is lost.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import type { JobPhase } from "../contracts/hold-protocol.ts";
import type { JobSummary } from "../contracts/local-calls.ts";
import type { Order } from "../contracts/order.ts";
import type { Report } from "../contracts/report.ts";
import type { AskerKind, Journal, JournalJob } from "./journal.ts";
import { readKeptReports } from "./kept-reports.ts";
import type { Log } from "./log.ts";
import type { WriteHold } from "./write-hold.ts";

/** `trimEvery`: jobs between two removals of old ones. */
const keepByDefault = { jobs: 5_000, reports: 500, trimEvery: 100 };
const reportsInMemory = 20;
const retryMs = 5_000;

type Known = { job: JournalJob; summary: JobSummary };

export type JobRecords = AsyncDisposable & {
	/** Newest first. With a controller, those that another controller ordered are left out. */
	list(limit: number, forController?: string): JobSummary[];
	find(jobId: string): { order: Order; summary: JobSummary; controller?: string } | undefined;
	/** From memory; an older one from the journal, which is refused with `job-running` while disks are held. */
	findReport(jobId: string): Report | undefined;
	latestReport(): Report | undefined;
	/** Before a job starts. @throws `job-conflict` for an id that was ever used; `disk-full`, `state-unusable`, `journal-corrupt`: then the job must not start. */
	begin(order: Order, asker: AskerKind, controller?: string): Promise<void>;
	setPhase(jobId: string, phase: JobPhase): void;
	/** In memory at once; on disk as soon as the disk allows. Jobs of the link also enter the outbox. */
	end(jobId: string, report: Report): void;
	/** Jobs that a former life left running. */
	unfinished(): readonly JournalJob[];
	readonly outbox: Outbox;
	/**
	 * This machine is not the one whose jobs these are: all that is known of them is copied to the file and forgotten,
	 * and a job that runs is told to nobody. Not before that is done may there be a new enrolment.
	 */
	putAside(path: string): Promise<void>;
};

/** Each report belongs to the controller that ordered its job, and is given to no other. */
export type Outbox = {
	/** Reports for this controller, and those held back for others. */
	count(controller: string | undefined): { due: number; heldBack: number };
	/** The oldest one for it that is not acknowledged; undefined while disks are held and it lies only there. */
	first(controller: string): { sequence: number; report: Report } | undefined;
	acknowledge(sequence: number): void;
	/** Called when a report came in. */
	onAdded(listener: () => void): Disposable;
};

export function makeJobRecords(given: {
	journal: Journal;
	hold: WriteHold;
	log: Log;
	runDir: string;
	/** How many records and reports; ids are kept for ever. */
	keep?: typeof keepByDefault;
}): JobRecords {
	const { journal, hold, log, keep = keepByDefault } = given;
	const reportsFolder = join(given.runDir, "reports");
	const known = new Map<string, Known>();
	const reports = new Map<string, Report>();
	const outbox = new Map<number, { controller: string | undefined; inMemory: Report | undefined }>();
	const isFor = (controller: string | undefined, owner: string | undefined) =>
		owner === undefined || owner === controller;
	const unwritten = new Map<string, { job: JournalJob & { report: Report }; sequence: number | undefined }>();
	const listeners = new Set<() => void>();
	const state = { ended: 0, nextSequence: 1, timer: undefined as NodeJS.Timeout | undefined };

	journal.trim(keep);
	for (const job of journal.readJobs(keep.jobs).reverse()) remember(job);
	for (const { sequence, controller } of journal.readOutbox())
		outbox.set(sequence, { controller, inMemory: undefined });
	state.nextSequence = journal.nextSequence();
	const kept = readKeptReports(reportsFolder, (file, error) =>
		log.warn("a kept report cannot be read", { file, error }),
	);
	for (const job of kept) finish(job, job.report);

	function remember(job: JournalJob): void {
		const { report, ...rest } = job;
		known.set(job.jobId, { job: rest, summary: summarize(job) });
		for (const [jobId, oldest] of known) {
			if (known.size <= keep.jobs || oldest.job.phase === "running") break;
			known.delete(jobId);
		}
		if (report === undefined) return;
		reports.set(job.jobId, report);
		for (const oldest of reports.keys()) {
			if (reports.size <= reportsInMemory) break;
			reports.delete(oldest);
		}
	}

	function finish(job: JournalJob, report: Report): void {
		const ended = { ...job, phase: report.error === undefined ? ("done" as const) : ("failed" as const), report };
		const sequence = job.asker === "link" ? state.nextSequence++ : undefined;
		remember(ended);
		if (sequence !== undefined) outbox.set(sequence, { controller: job.controller, inMemory: report });
		unwritten.set(job.jobId, { job: ended, sequence });
		keepInRunFolder(ended);
		writeDown();
		state.ended += 1;
		if (state.ended % keep.trimEvery === 0)
			void hold
				.write(() => journal.trim(keep))
				.catch((error: unknown) => log.warn("old jobs could not be removed from the journal", { error }));
		for (const listener of listeners) listener();
	}

	/** On tmpfs: safe while frozen, and what a killed agent's next life finds. */
	function keepInRunFolder(job: JournalJob & { report: Report }): void {
		try {
			mkdirSync(reportsFolder, { recursive: true, mode: 0o700 });
			writeFileSync(join(reportsFolder, `${job.jobId}.json`), JSON.stringify({ ...job, version: 1 }), { mode: 0o600 });
		} catch (error) {
			log.warn("a report could not be kept in the run folder", { jobId: job.jobId, error });
		}
	}

	function writeDown(): void {
		for (const [jobId, { job, sequence }] of unwritten)
			void hold
				.write(() => {
					if (unwritten.get(jobId)?.job !== job) return;
					journal.endJob(job, sequence !== undefined && outbox.has(sequence) ? sequence : undefined);
					unwritten.delete(jobId);
					const waiting = sequence === undefined ? undefined : outbox.get(sequence);
					if (waiting !== undefined) waiting.inMemory = undefined;
					rmSync(join(reportsFolder, `${jobId}.json`), { force: true });
				})
				.catch((error: unknown) => {
					log.error("a report could not be journaled; it is kept and tried again", {
						jobId,
						code: asStillpointError(error).code,
						error,
					});
					state.timer ??= setTimeout(() => {
						state.timer = undefined;
						writeDown();
					}, retryMs);
				});
	}

	function findReport(jobId: string): Report | undefined {
		const inMemory = reports.get(jobId) ?? unwritten.get(jobId)?.job.report;
		if (inMemory !== undefined) return inMemory;
		if (!known.has(jobId)) return undefined;
		if (hold.held) throw new StillpointError("job-running", "older reports cannot be read while disks are frozen");
		return journal.findReport(jobId);
	}

	return {
		list: (limit, forController) =>
			[...known.values()]
				.filter(({ job }) => forController === undefined || isFor(forController, job.controller))
				.slice(-limit)
				.reverse()
				.map(({ summary }) => summary),
		find: (jobId) => {
			const found = known.get(jobId);
			if (found === undefined) return undefined;
			const { order, controller } = found.job;
			return { order, summary: found.summary, ...(controller === undefined ? {} : { controller }) };
		},
		findReport,
		latestReport: () => [...reports.values()].at(-1),
		async begin(order, asker, controller) {
			const job: JournalJob = {
				jobId: order.jobId,
				order,
				asker,
				...(controller === undefined ? {} : { controller }),
				phase: "running",
				createdAt: new Date().toISOString(),
			};
			await hold.write(() => journal.addJob(job));
			remember(job);
		},
		setPhase(jobId, phase) {
			const found = known.get(jobId);
			if (found !== undefined) found.summary = { ...found.summary, phase };
		},
		end(jobId, report) {
			const found = known.get(jobId);
			if (found === undefined) throw new StillpointError("internal", `no job ${jobId} to end`);
			finish(found.job, report);
		},
		unfinished: () => [...known.values()].map(({ job }) => job).filter(({ phase }) => phase === "running"),
		outbox: {
			count(controller) {
				const due = [...outbox.values()].filter((one) => isFor(controller, one.controller)).length;
				return { due, heldBack: outbox.size - due };
			},
			first(controller) {
				const next = [...outbox].find(([, one]) => isFor(controller, one.controller));
				if (next === undefined) return undefined;
				const [sequence, { inMemory }] = next;
				if (inMemory !== undefined) return { sequence, report: inMemory };
				if (hold.held) return undefined;
				const report = journal.readOutboxReport(sequence);
				return report === undefined ? undefined : { sequence, report };
			},
			acknowledge(sequence) {
				if (!outbox.delete(sequence)) return;
				void hold
					.write(() => journal.removeFromOutbox(sequence))
					// It is sent once more after the next start; the controller knows it by its job id.
					.catch((error: unknown) => log.warn("an acknowledged report stays in the outbox", { sequence, error }));
			},
			onAdded(listener) {
				listeners.add(listener);
				return { [Symbol.dispose]: () => void listeners.delete(listener) };
			},
		},
		async putAside(path) {
			if (known.size === 0 && outbox.size === 0) return;
			await hold.write(() => journal.putAside(path));
			for (const [jobId, one] of known)
				if (one.job.phase !== "running") known.delete(jobId);
				else one.job = { ...one.job, asker: "local" };
			reports.clear();
			outbox.clear();
			for (const jobId of unwritten.keys()) rmSync(join(reportsFolder, `${jobId}.json`), { force: true });
			unwritten.clear();
		},
		async [Symbol.asyncDispose]() {
			clearTimeout(state.timer);
			state.timer = undefined;
			if (hold.held) return;
			writeDown();
			await hold.drained();
			clearTimeout(state.timer);
		},
	};
}

function summarize(job: JournalJob): JobSummary {
	const { report } = job;
	return {
		jobId: job.jobId,
		phase: job.phase === "running" ? "queued" : job.phase,
		requested: job.order.level,
		startedAt: job.createdAt,
		...(report === undefined ? {} : { achieved: report.achieved, held: report.held }),
		...(report?.error === undefined ? {} : { errorCode: report.error.code }),
	};
}
