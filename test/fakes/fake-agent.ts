/** An agent without file systems: it keeps the rules of the hold protocol, and says when the controller does not. */
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import {
	type AgentMessage,
	type ControllerMessage,
	controllerMessageSchema,
	linkProtocolVersion,
} from "../../contracts/controller-messages.ts";
import type { ErrorCode } from "../../contracts/errors.ts";
import type { PlannedDisk } from "../../contracts/hold-protocol.ts";
import { type Level, lowest } from "../../contracts/level.ts";
import type { Order } from "../../contracts/order.ts";
import type { Report } from "../../contracts/report.ts";
import { type Enrolled, fakeMachine } from "./fake-enrolment.ts";
import { makeFakeReport } from "./fake-report.ts";

type Word = "accepted" | "prepared" | "frozen" | "thawed" | "report";

export type FakeAgentOptions = Enrolled & {
	readonly url: string;
	readonly disks: readonly PlannedDisk[];
	/** Local cap of the hold. */
	readonly holdCapMs?: number;
	/** The words that it never says. */
	readonly silentOn?: readonly Word[];
	/** What its verdict is when everything was proved. */
	readonly worth?: Level;
	readonly refuseWith?: ErrorCode;
	/** Runs between the freeze and the word `frozen`. */
	readonly whenFrozen?: () => Promise<void>;
	/** What it says is left of the hold: an agent whose freeze took long. */
	readonly leftMs?: number;
	/** Says that it wants to hear of each disk that is taken. */
	readonly perDisk?: boolean;
	/** Results of the controller's requests, by their method. */
	readonly answers?: Readonly<Record<string, unknown>>;
};

type Job = {
	order: Order;
	phase: "preparing" | "prepared" | "frozen" | "thawed";
	timer?: NodeJS.Timeout;
	tookAll: boolean;
	described: boolean;
};

export type FakeAgent = AsyncDisposable & {
	readonly agentId: string;
	/** Everything that was heard and done, as words in order. */
	readonly story: string[];
	/** What the controller did against the protocol. */
	readonly violations: string[];
	readonly frozen: boolean;
	readonly outbox: ReadonlyMap<number, Report>;
	readonly heard: ControllerMessage[];
	/** How the latest connection ended. */
	readonly closed: Promise<{ code: number; reason: string }>;
	connect(): Promise<void>;
	/** The link breaks; the agent lives on, and undoes a job that was not done. */
	disconnect(): Promise<void>;
	/** Knows nothing of its jobs any more: a machine that was set up anew. */
	forget(): void;
	/** Hears and says nothing any more, though the connection stays: a machine that hangs. */
	hang(): void;
	sendRaw(frame: string | Buffer): void;
	/** Resolves when the story has the word. */
	until(word: string, limitMs?: number): Promise<void>;
	/** Puts a report into the outbox and sends it. */
	report(report: Report): void;
};

export async function startFakeAgent(options: FakeAgentOptions): Promise<FakeAgent> {
	const { agentId, disks, worth = "file-system", silentOn = [] } = options;
	const story: string[] = [];
	const violations: string[] = [];
	const heard: ControllerMessage[] = [];
	const outbox = new Map<number, Report>();
	const reported = new Map<string, Report>();
	const jobs = new Map<string, Job>();
	const state: {
		socket?: WebSocket;
		closed: Promise<{ code: number; reason: string }>;
		sequence: number;
		hanging: boolean;
		ticket?: string;
	} = {
		closed: Promise.resolve({ code: 0, reason: "" }),
		sequence: 0,
		hanging: false,
	};
	const isSilent = (word: Word) => silentOn.includes(word);
	const say = (message: AgentMessage) => {
		if (!state.hanging && state.socket?.readyState === WebSocket.OPEN) state.socket.send(JSON.stringify(message));
	};

	function sendReport(report: Report): void {
		state.sequence += 1;
		outbox.set(state.sequence, report);
		reported.set(report.jobId, report);
		say({ type: "report", sequence: state.sequence, report });
	}

	function thaw(job: Job, why: string): void {
		clearTimeout(job.timer);
		if (job.phase === "frozen") story.push(`thaw:${why}`);
		job.phase = "thawed";
		if (!isSilent("thawed")) say({ type: "thawed", jobId: job.order.jobId });
	}

	function finish(job: Job, error?: { code: ErrorCode; message: string }): void {
		const { level } = job.order;
		const reached = level === "crash" ? "crash" : job.described ? lowest([level, worth], "none") : "crash";
		jobs.delete(job.order.jobId);
		story.push(`ended:${error?.code ?? reached}`);
		const report = makeFakeReport(job.order, error === undefined && job.tookAll ? reached : "none", error);
		if (!isSilent("report")) sendReport(report);
	}

	function undo(job: Job, code: ErrorCode): void {
		thaw(job, code);
		finish(job, { code, message: `fake: ${code}` });
	}

	function takeOrder(order: Order): void {
		const { jobId } = order;
		const report = reported.get(jobId);
		if (report !== undefined || jobs.has(jobId)) {
			say({ type: "accepted", jobId, repeated: true, ...(report ? { report } : {}) });
		} else if (options.refuseWith !== undefined) {
			say({ type: "refused", jobId, error: { code: options.refuseWith, message: "fake refusal" } });
		} else if (!isSilent("accepted")) startJob(order);
	}

	function startJob(order: Order): void {
		const { jobId } = order;
		const job: Job = { order, phase: "preparing", tookAll: false, described: false };
		jobs.set(jobId, job);
		say({ type: "accepted", jobId, repeated: false });
		if (isSilent("prepared")) return;
		job.phase = "prepared";
		const { disks: wanted } = order;
		const included = disks.filter(({ name }) =>
			wanted === "all" ? true : "include" in wanted ? wanted.include.includes(name) : !wanted.exclude.includes(name),
		);
		const perDisk = options.perDisk === undefined ? {} : { perDisk: options.perDisk };
		say({ type: "prepared", jobId, disks: included, holdLimitMs: holdOf(order), ...perDisk });
	}

	function holdOf(order: Order): number {
		return Math.min(order.holdLimitMs, options.holdCapMs ?? order.holdLimitMs);
	}

	function freeze(job: Job): void {
		if (job.phase !== "prepared") {
			violations.push(`freeze while ${job.phase}`);
			return;
		}
		const holdMs = holdOf(job.order);
		job.phase = "frozen";
		story.push("frozen");
		job.timer = setTimeout(() => undo(job, "hold-expired"), holdMs);
		if (isSilent("frozen")) return;
		const { level, jobId } = job.order;
		const leftMs = options.leftMs ?? holdMs - 5;
		void (options.whenFrozen?.() ?? Promise.resolve()).then(() =>
			say({ type: "frozen", jobId, leftMs, worth: level === "crash" ? "crash" : worth }),
		);
	}

	function takeCommand(message: Extract<ControllerMessage, { jobId: string }>): void {
		const job = jobs.get(message.jobId);
		if (job === undefined) {
			if (message.type === "freeze" || message.type === "done") violations.push(`${message.type} for no job`);
			return;
		}
		const { type } = message;
		if (type === "freeze") freeze(job);
		else if (type === "taken") noteTaken(job, message);
		else if (type === "done") takeDone(job, message);
		else if (type === "described") takeDescribed(job, message);
		else if (type === "release") undo(job, "snapshot-failed");
		else if (type === "cancel") undo(job, message.code);
	}

	function noteTaken(job: Job, { disk }: Extract<ControllerMessage, { type: "taken" }>): void {
		if (options.perDisk !== true) violations.push("taken was told to an agent that does not know it");
		if (job.phase !== "frozen") violations.push(`taken while ${job.phase}`);
		story.push(`taken:${disk.name}`);
	}

	function takeDone(job: Job, message: Extract<ControllerMessage, { type: "done" }>): void {
		if (job.phase !== "frozen") violations.push(`done while ${job.phase}`);
		job.tookAll = message.disks.length > 0 && message.disks.every(({ ok }) => ok);
		thaw(job, "done");
	}

	function takeDescribed(job: Job, message: Extract<ControllerMessage, { type: "described" }>): void {
		if (job.phase !== "thawed") violations.push(`described while ${job.phase}`);
		job.described = message.disks.length > 0;
		finish(job);
	}

	function hear(message: ControllerMessage): void {
		heard.push(message);
		story.push(message.type);
		if (message.type === "welcome") {
			state.ticket = message.ticket;
			say({ type: "ticket-kept", ticket: message.ticket });
			for (const [sequence, report] of outbox) say({ type: "report", sequence, report });
		} else if (message.type === "ack") outbox.delete(message.sequence);
		else if (message.type === "order") takeOrder(message.order);
		else if (message.type === "request")
			say({
				type: "response",
				requestId: message.requestId,
				result: options.answers?.[message.method] ?? { method: message.method },
			});
		else if ("jobId" in message) takeCommand(message);
	}

	async function connect(): Promise<void> {
		const { url, ca, cert, key } = options;
		const socket = new WebSocket(`${url.replace("https", "wss")}/v1/link`, { ca, cert, key, perMessageDeflate: false });
		state.socket = socket;
		state.hanging = false;
		state.closed = new Promise((resolve) => {
			socket.on("close", (code, reason) => {
				story.push("closed");
				// A link that breaks before `done` is a cancel; after it only the report is owed.
				for (const job of jobs.values()) if (!job.tookAll) undo(job, "asker-lost");
				resolve({ code, reason: reason.toString() });
			});
		});
		socket.on("message", (data) => {
			if (state.hanging) return;
			const parsed = controllerMessageSchema.safeParse(JSON.parse(data.toString()));
			if (parsed.success) hear(parsed.data);
			else violations.push(`a message that is not in the contract: ${data.toString().slice(0, 200)}`);
		});
		await new Promise<void>((resolve, reject) => {
			socket.on("error", reject);
			socket.on("open", () => resolve());
		});
		const [runningJobId] = jobs.keys();
		say({
			type: "hello",
			protocol: linkProtocolVersion,
			version: "0.0.0",
			machine: fakeMachine,
			time: new Date().toISOString(),
			...(runningJobId === undefined ? {} : { runningJobId }),
			...(state.ticket === undefined ? {} : { ticket: state.ticket }),
		});
	}

	const agent: FakeAgent = {
		agentId,
		story,
		violations,
		heard,
		outbox,
		get frozen() {
			return [...jobs.values()].some(({ phase }) => phase === "frozen");
		},
		get closed() {
			return state.closed;
		},
		connect: async () => {
			await connect();
			await agent.until("welcome");
		},
		async disconnect() {
			state.socket?.terminate();
			await state.closed;
		},
		forget: () => jobs.clear(),
		hang() {
			state.hanging = true;
			state.socket?.pause();
		},
		sendRaw: (frame) => state.socket?.send(frame),
		report: sendReport,
		async until(word, limitMs = 10_000) {
			const endsAt = Date.now() + limitMs;
			while (!story.includes(word)) {
				if (Date.now() > endsAt) throw new Error(`the fake agent never came to "${word}": ${story.join(" ")}`);
				await sleep(5);
			}
		},
		async [Symbol.asyncDispose]() {
			for (const { timer } of jobs.values()) clearTimeout(timer);
			jobs.clear();
			state.socket?.terminate();
			await state.closed;
		},
	};
	await agent.connect();
	return agent;
}
