/** Orders in, one job at a time out. */
import { checkShape } from "../contracts/check-shape.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import type { ExtensionEvent } from "../contracts/extension.ts";
import type { HoldCommand, OrderAnswer } from "../contracts/hold-protocol.ts";
import { type Order, orderSchema } from "../contracts/order.ts";
import type { Report } from "../contracts/report.ts";
import type { LocalCaller } from "../platform/local-channel.ts";
import type { Asker } from "./asker.ts";
import type { InstalledExtension } from "./extension-host/installed-extension.ts";
import type { JobRecords } from "./job-records.ts";
import type { Log } from "./log.ts";
import { type JobStart, type RunningJob, startJob } from "./run-job.ts";

const maxWaiting = 16;

export type JobRunner = AsyncDisposable & {
	/** The order is checked here, whoever it came from. Never rejects for a fault of the order. */
	order(order: unknown, asker: Asker): Promise<OrderAnswer>;
	/** @throws `job-unknown`, `not-allowed` when somebody else than the asker commands (`cancel` may come from anybody). */
	command(command: HoldCommand, from: Asker | undefined): void;
	attach(token: string, jobId: string, caller: LocalCaller): void;
	event(token: string, event: ExtensionEvent): Promise<void>;
	readonly running: RunningJob | undefined;
	/** While true nothing may touch a disk. */
	readonly mayBeFrozen: boolean;
};

type Waiting = { order: Order; asker: Asker; turn: () => void; refuse: (error: StillpointError) => void };

export function makeJobRunner(given: {
	records: JobRecords;
	log: Log;
	/** Chooses the extension. @throws `extension-missing` */
	prepare(order: Order): Pick<JobStart, "extension" | "makeRequest" | "ports">;
	/** After the report is recorded. */
	onEnded(report: Report, extension: InstalledExtension): void;
}): JobRunner {
	const { records, log } = given;
	const waiting: Waiting[] = [];
	/** Orders that are neither answered nor known yet. */
	const underWay = new Map<string, { text: string; answer: Promise<OrderAnswer> }>();
	const state = {
		running: undefined as RunningJob | undefined,
		/** Between the turn of an order and its start. */
		starting: false,
		stopping: false,
		settled: Promise.resolve(),
	};

	async function order(input: unknown, asker: Asker): Promise<OrderAnswer> {
		const parsed = checkShape(orderSchema, input);
		if (!parsed.success) {
			const issue = parsed.error.issues[0];
			const jobId = readJobId(input);
			const what = `${issue?.path.join(".") || "order"}: ${issue?.message}`;
			return refused(jobId, new StillpointError("order-invalid", what));
		}
		try {
			return await accept(parsed.data, asker);
		} catch (error) {
			return refused(parsed.data.jobId, asStillpointError(error));
		}
	}

	/** An id that is under way is one order, however often it comes: every sender gets the answer of the first. */
	async function accept(order: Order, asker: Asker): Promise<OrderAnswer> {
		const { jobId } = order;
		const repeated = findRepeated(order, asker);
		if (repeated !== undefined) return repeated;
		const same = underWay.get(jobId);
		if (same !== undefined) {
			if (same.text !== JSON.stringify(order))
				throw new StillpointError("job-conflict", `a different order with the id ${jobId} waits already`);
			const answer = await same.answer;
			return answer.type === "accepted" ? { ...answer, repeated: true } : answer;
		}
		const answer = start(order, asker);
		underWay.set(jobId, { text: JSON.stringify(order), answer });
		try {
			return await answer;
		} finally {
			underWay.delete(jobId);
		}
	}

	async function start(order: Order, asker: Asker): Promise<OrderAnswer> {
		if (state.stopping) throw new StillpointError("stopping", "the service is stopping");
		if (state.running !== undefined || state.starting) await waitForTurn(order, asker);
		state.starting = true;
		try {
			const prepared = given.prepare(order);
			await records.begin(order, asker.kind, asker.controller);
			begin({ ...prepared, order, asker });
			return { type: "accepted", jobId: order.jobId, repeated: false };
		} finally {
			state.starting = false;
			if (state.running === undefined) next();
		}
	}

	/** A job id is run once: the same order gets what is recorded, another one is a conflict. */
	function findRepeated(order: Order, asker: Asker): OrderAnswer | undefined {
		const known = records.find(order.jobId);
		if (known === undefined) return undefined;
		if (asker.kind === "link" && known.controller !== undefined && known.controller !== asker.controller)
			throw new StillpointError("job-conflict", `job ${order.jobId} was ordered by somebody else`);
		if (JSON.stringify(known.order) !== JSON.stringify(order))
			throw new StillpointError("job-conflict", `job ${order.jobId} was ordered before, and differently`);
		const report = records.findReport(order.jobId);
		return { type: "accepted", jobId: order.jobId, repeated: true, ...(report === undefined ? {} : { report }) };
	}

	async function waitForTurn(order: Order, asker: Asker): Promise<void> {
		const busy = `job ${state.running?.order.jobId ?? "another"} runs`;
		if (order.startWithinMs === 0 || waiting.length >= maxWaiting) throw new StillpointError("job-running", busy);
		const turn = Promise.withResolvers<void>();
		const entry: Waiting = { order, asker, turn: turn.resolve, refuse: turn.reject };
		const late = new StillpointError("order-expired", `${busy}, longer than ${order.startWithinMs} ms`);
		const timer = setTimeout(() => turn.reject(late), order.startWithinMs);
		const lost = () => turn.reject(new StillpointError("asker-lost", "who ordered went away"));
		asker.closed.addEventListener("abort", lost, { once: true });
		waiting.push(entry);
		try {
			await turn.promise;
		} finally {
			clearTimeout(timer);
			asker.closed.removeEventListener("abort", lost);
			const index = waiting.indexOf(entry);
			if (index >= 0) waiting.splice(index, 1);
		}
	}

	function next(): void {
		const entry = waiting.shift();
		if (entry === undefined) return;
		state.starting = true;
		entry.turn();
	}

	function begin(start: JobStart): void {
		const { jobId } = start.order;
		log.info("job begins", {
			jobId,
			wanted: start.order.level,
			asker: start.asker.kind,
			extension: start.extension.name,
		});
		const job = startJob(start);
		state.running = job;
		state.settled = job.report
			.then((report) => {
				records.end(jobId, report);
				start.asker.send({ type: "report", report });
				const { achieved, held, error } = report;
				log.info("job ended", { jobId, requested: report.requested, achieved, held, error: error?.code });
				given.onEnded(report, start.extension);
			})
			.catch((error: unknown) => void log.error("a job could not be closed", { jobId, error }))
			.finally(() => {
				state.running = undefined;
				if (!state.stopping) next();
			});
	}

	function require(jobId: string): RunningJob {
		if (state.running?.order.jobId !== jobId) throw new StillpointError("job-unknown", `job ${jobId} does not run`);
		return state.running;
	}

	return {
		order,
		command(command, from) {
			const queued = waiting.find((one) => one.order.jobId === command.jobId);
			if (queued !== undefined && command.type === "cancel") {
				queued.refuse(new StillpointError(command.code, "cancelled while it waited"));
				return;
			}
			const job = require(command.jobId);
			const isAsker =
				job.asker === from ||
				(job.asker.kind === "link" && from?.kind === "link" && job.asker.controller === from.controller);
			if (command.type !== "cancel" && !isAsker)
				throw new StillpointError("not-allowed", `job ${command.jobId} was ordered by somebody else`);
			job.command(command);
		},
		attach: (token, jobId, caller) => require(jobId).attach(token, caller),
		event: async (token, event) => await require(event.jobId).event(token, event),
		get running() {
			return state.running;
		},
		get mayBeFrozen() {
			return state.running?.mayBeFrozen ?? false;
		},
		async [Symbol.asyncDispose]() {
			state.stopping = true;
			for (const one of waiting.splice(0)) one.refuse(new StillpointError("stopping", "the service is stopping"));
			state.running?.cancel("stopping");
			await state.settled;
		},
	};
}

function refused(jobId: string, error: StillpointError): OrderAnswer {
	return { type: "refused", jobId, error: error.toJSON() };
}

/** The answer's id must be one, whatever came. */
function readJobId(input: unknown): string {
	const jobId = typeof input === "object" && input !== null && "jobId" in input ? input.jobId : undefined;
	const checked = checkShape(orderSchema.shape.jobId, jobId);
	return checked.success ? checked.data : "invalid";
}
