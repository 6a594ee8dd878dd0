/** The agent's link to its controller: always one connection or the next attempt at one. */
import { setTimeout as sleep } from "node:timers/promises";
import type { z } from "zod";
import {
	type AgentMessage,
	type ControllerMessage,
	controllerMessageSchema,
	linkProtocolVersion,
	type machineSchema,
} from "../../contracts/controller-messages.ts";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import type { HoldEvent } from "../../contracts/hold-protocol.ts";
import { within } from "../../platform/within.ts";
import type { Asker } from "../asker.ts";
import type { Outbox } from "../job-records.ts";
import type { JobRunner } from "../job-runner.ts";
import type { Log } from "../log.ts";
import type { Enrolment } from "./enrolment-file.ts";
import type { ConnectLink, LinkConnection } from "./link-transport.ts";
import { makeOutboxSender, type OutboxSender } from "./outbox-sender.ts";

const welcomeLimitMs = 10_000;
const firstPauseMs = 500;
const longestPauseMs = 30_000;

export type LinkPorts = {
	readonly log: Log;
	readonly version: string;
	readonly machine: z.infer<typeof machineSchema>;
	readonly runner: JobRunner;
	readonly outbox: Outbox;
	readonly connect: ConnectLink;
	/** Undefined: not enrolled, or enrolled as another machine. */
	findEnrolment(): Enrolment | undefined;
	/** Answers of `request`. */
	readonly answers: { status(): Promise<unknown>; inventory(): Promise<unknown> };
};

export type ControllerLink = AsyncDisposable & {
	readonly state: { enrolled: boolean; connected: boolean; controller?: string; agentId?: string };
	/** Reads the enrolment again and connects at once. */
	reload(): void;
	/** What every link must hear, though it did not order the job. */
	tell(event: HoldEvent): void;
	/** Waits until every report is acknowledged, while there is a connection, at most `limitMs`. */
	flush(limitMs: number): Promise<void>;
};

export function startControllerLink(ports: LinkPorts, stopping: AbortSignal): ControllerLink {
	const { log } = ports;
	const stopped = new AbortController();
	const stop = AbortSignal.any([stopping, stopped.signal]);
	const state = {
		enrolment: undefined as Enrolment | undefined,
		connection: undefined as LinkConnection | undefined,
		welcomed: false,
		wake: new AbortController(),
	};

	function send(message: AgentMessage): boolean {
		return state.welcomed && (state.connection?.send(JSON.stringify(message)) ?? false);
	}

	async function keepLinked(): Promise<void> {
		let pauseMs = firstPauseMs;
		while (!stop.aborted) {
			state.enrolment = readEnrolment();
			if (state.enrolment !== undefined) {
				const welcomed = await holdOneConnection(state.enrolment).catch((error: unknown) => {
					if (!stop.aborted) log.warn("the link is down", { error, code: asStillpointError(error).code });
					return state.welcomed;
				});
				state.connection = undefined;
				state.welcomed = false;
				pauseMs = welcomed ? firstPauseMs : Math.min(pauseMs * 2, longestPauseMs);
			}
			await pause(state.enrolment === undefined ? undefined : pauseMs * (0.5 + Math.random() / 2));
			// A new connection looks up names and reads files: not while disks are held, unless help may be needed.
			while (!stop.aborted && ports.runner.mayBeFrozen && ports.runner.running?.phase !== "stuck") await sleep(100);
		}
	}

	function readEnrolment(): Enrolment | undefined {
		try {
			return ports.findEnrolment();
		} catch (error) {
			log.error("the enrolment cannot be read", { error });
			return undefined;
		}
	}

	/** Until `reload`, a stop, or `limitMs`. */
	async function pause(limitMs: number | undefined): Promise<void> {
		state.wake = new AbortController();
		const signal = AbortSignal.any([state.wake.signal, stop]);
		if (signal.aborted) return;
		await sleep(limitMs ?? 2 ** 31 - 1, undefined, { signal, ref: false }).catch(() => {});
	}

	/** True when it was welcomed. Ends with the connection. */
	async function holdOneConnection(enrolment: Enrolment): Promise<boolean> {
		const welcome = Promise.withResolvers<void>();
		using undo = new DisposableStack();
		const inbox: string[] = [];
		const session = { sender: undefined as OutboxSender | undefined, asker: undefined as Asker | undefined };
		const connection = await ports.connect(
			{ ...enrolment, url: enrolment.controllerUrl },
			{ text: (text) => (session.sender === undefined ? void inbox.push(text) : receive(text)) },
			stop,
		);
		undo.defer(() => connection.close());
		state.connection = connection;
		const runningJobId = ports.runner.running?.asker.kind === "link" ? ports.runner.running.order.jobId : undefined;
		const sender = undo.use(
			makeOutboxSender({
				outbox: ports.outbox,
				send: (message) => send(message as AgentMessage),
				onSilent: () => connection.close(),
			}),
		);
		const asker: Asker = {
			kind: "link",
			closed: connection.closed,
			// A job that outlives its connection (after `done`) speaks over the next one.
			send: (event) => void (event.type === "report" || send(event)),
		};
		Object.assign(session, { sender, asker });
		connection.send(
			JSON.stringify({
				type: "hello",
				protocol: linkProtocolVersion,
				version: ports.version,
				machine: ports.machine,
				...(runningJobId === undefined ? {} : { runningJobId }),
			} satisfies AgentMessage),
		);
		for (const text of inbox.splice(0)) receive(text);
		await within(Promise.race([welcome.promise, ended(connection)]), welcomeLimitMs, "the controller's welcome");
		log.info("linked", { controller: enrolment.controllerUrl, agentId: enrolment.agentId });
		sender.wake();
		const error = await ended(connection).catch((error: unknown) => error);
		if (!stop.aborted) log.warn("the link ended", { error });
		return true;

		function receive(text: string): void {
			try {
				const message = parseMessage(text);
				if (message.type === "welcome") {
					if (message.protocol !== linkProtocolVersion)
						throw new StillpointError("version-unsupported", `the controller speaks protocol ${message.protocol}`);
					state.welcomed = true;
					welcome.resolve();
				} else if (!state.welcomed && message.type !== "error") {
					throw new StillpointError("message-invalid", `${message.type} came before welcome`);
				} else handle(message, asker, sender);
			} catch (error) {
				log.warn("the controller sent what does not fit; closing the link", { error });
				connection.close();
			}
		}
	}

	function handle(message: Exclude<ControllerMessage, { type: "welcome" }>, asker: Asker, sender: OutboxSender): void {
		switch (message.type) {
			case "order":
				void ports.runner.order(message.order, asker).then(send);
				return;
			case "ack":
				sender.acknowledged(message.sequence);
				return;
			case "request":
				void respond(message.requestId, message.method);
				return;
			case "renewed":
				return;
			case "error":
				log.warn("the controller reports an error", { code: message.error.code, message: message.error.message });
				return;
			default:
				try {
					ports.runner.command(message, asker);
				} catch (error) {
					log.warn("a command of the controller was refused", { type: message.type, jobId: message.jobId, error });
				}
		}
	}

	async function respond(requestId: string, method: "status" | "inventory"): Promise<void> {
		try {
			send({ type: "response", requestId, result: await ports.answers[method]() });
		} catch (error) {
			send({ type: "response", requestId, error: asStillpointError(error).toJSON() });
		}
	}

	const finished = keepLinked();
	finished.catch((error: unknown) => log.error("the link gave up", { error }));
	return {
		get state() {
			const { enrolment } = state;
			return {
				enrolled: enrolment !== undefined,
				connected: state.welcomed,
				...(enrolment === undefined ? {} : { controller: enrolment.controllerUrl, agentId: enrolment.agentId }),
			};
		},
		reload() {
			state.connection?.close();
			state.wake.abort();
		},
		tell: (event) => void send(event),
		async flush(limitMs) {
			const endMs = performance.now() + limitMs;
			while (state.welcomed && ports.outbox.unsent > 0 && performance.now() < endMs) await sleep(10);
		},
		async [Symbol.asyncDispose]() {
			stopped.abort();
			await finished;
		},
	};
}

/** Rejects with the reason when the connection ends. */
function ended(connection: LinkConnection): Promise<never> {
	return new Promise((_, reject) => {
		if (connection.closed.aborted) reject(connection.closed.reason);
		connection.closed.addEventListener("abort", () => reject(connection.closed.reason), { once: true });
	});
}

/** An order that is not understood is refused by the runner, with its job id; any other misfit ends the connection. */
function parseMessage(text: string): ControllerMessage {
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch (cause) {
		throw new StillpointError("message-invalid", "a frame is no JSON", { cause });
	}
	if (typeof value === "object" && value !== null && "type" in value && value.type === "order" && "order" in value)
		return { type: "order", order: value.order } as ControllerMessage;
	const message = controllerMessageSchema.safeParse(value);
	if (!message.success) {
		const issue = message.error.issues[0];
		throw new StillpointError("message-invalid", `${issue?.path.join(".") || "(all)"}: ${issue?.message}`);
	}
	return message.data;
}
