import { randomUUID } from "node:crypto";
import { z } from "zod";
import { checkShape } from "../contracts/check-shape.ts";
import {
	type AgentMessage,
	agentMessageSchema,
	type ControllerMessage,
	linkProtocolVersion,
	maxFrameBytes,
} from "../contracts/controller-messages.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import { idSchema } from "../contracts/order.ts";
import { raceSignal } from "./deadline.ts";
import { errorOnWire } from "./error-on-wire.ts";
import { describeIssue } from "./field-issue.ts";
import type { LinkSocket } from "./link-socket.ts";
import type { Log } from "./log.ts";

export type Hello = Extract<AgentMessage, { type: "hello" }>;
export type RequestMethod = Extract<ControllerMessage, { type: "request" }>["method"];
/** A report that does not match its schema, such as one of another version. It came, so it must be acknowledged. */
export type UnreadableReport = {
	readonly type: "unreadable-report";
	readonly sequence: number;
	/** As far as it can be told. */
	readonly jobId: string | undefined;
	readonly text: string;
	readonly error: StillpointError;
};
/** All messages that are not the link's own business. */
export type AgentWord =
	| Exclude<AgentMessage, { type: "hello" | "response" | "ticket-kept" | "renew" }>
	| UnreadableReport;

export type AgentLink = {
	readonly agentId: string;
	/** False when the link is gone. True is no proof that it arrived. */
	send(message: ControllerMessage): boolean;
	request(method: RequestMethod, signal: AbortSignal): Promise<unknown>;
	/** Ends it; the reason stands in the close frame. */
	close(closeCode: number, reason: string): void;
	/** Says the error and ends it. */
	refuse(error: StillpointError): void;
	/** Whether the agent gives a sign of life within the time. */
	answers(limitMs: number): Promise<boolean>;
};

export type AgentLinkOptions = {
	readonly socket: LinkSocket;
	readonly agentId: string;
	readonly log: Log;
	/** Called once, after `hello`; `welcome` is sent with the ticket that it gives. What it throws refuses the agent. */
	readonly onHello: (link: AgentLink, hello: Hello) => Promise<string>;
	/** Called once, right after `welcome` was sent: from here on anything else may be. */
	readonly onGreeted: (link: AgentLink, hello: Hello) => void;
	readonly onTicketKept: (link: AgentLink, ticket: string) => Promise<void>;
	/** The certificate for the request's key. */
	readonly onRenew: (link: AgentLink, csr: string) => Promise<string>;
	/** Called one at a time and in order. */
	readonly onWord: (link: AgentLink, word: AgentWord) => Promise<void>;
	/** Called once, also when there was no `hello`. */
	readonly onClosed: (link: AgentLink) => void;
};

const tickMs = 1_000;
/** So many ticks without a sign of life end the link. Ticks and not time: a late event loop is not a dead peer. */
const silentTicks = 4;
const helloLimitMs = 5_000;
const invalidFramesLimit = 20;
const mostWaitingBytes = 16 * 1024 * 1024;
/** RFC 6455, 7.4.1 */
export const closeCodes = { goingAway: 1001, policy: 1008, internal: 1011 } as const;

/** Serves one connection: hello and welcome, schema check, heartbeat, requests. Frames are at most `maxFrameBytes`. */
export function serveAgentLink(options: AgentLinkOptions): AgentLink {
	const { socket, agentId, log } = options;
	const requests = new Map<string, PromiseWithResolvers<unknown>>();
	const probes = new Set<() => void>();
	const life = { greeted: false, silent: 0, bytesRead: 0, invalid: 0, working: 0, work: Promise.resolve() };

	const link: AgentLink = {
		agentId,
		send(message) {
			if (!socket.isOpen) return false;
			if (socket.waitingBytes > mostWaitingBytes) {
				log.warn("agent link ended: the agent does not read", { agentId });
				socket.terminate();
				return false;
			}
			socket.send(JSON.stringify(message));
			return true;
		},
		async request(method, signal) {
			const requestId = randomUUID();
			const answer = Promise.withResolvers<unknown>();
			answer.promise.catch(() => undefined);
			requests.set(requestId, answer);
			try {
				if (!link.send({ type: "request", requestId, method })) throw offline(agentId);
				return await raceSignal(answer.promise, signal);
			} finally {
				requests.delete(requestId);
			}
		},
		close(closeCode, reason) {
			socket.close(closeCode, reason);
			setTimeout(() => socket.terminate(), 1_000).unref();
		},
		refuse(error) {
			log.warn("agent link refused", { agentId, code: error.code, reason: error.message });
			link.send({ type: "error", error: errorOnWire(error) });
			link.close(closeCodes.policy, error.code);
		},
		async answers(limitMs) {
			if (!socket.isOpen) return false;
			const { promise, resolve } = Promise.withResolvers<void>();
			probes.add(resolve);
			socket.ping();
			const timer = setTimeout(resolve, limitMs);
			await promise;
			clearTimeout(timer);
			return !probes.delete(resolve) && socket.isOpen;
		},
	};

	function heard(): void {
		life.silent = 0;
		for (const resolve of probes) resolve();
		probes.clear();
	}

	async function receive(text: string | undefined): Promise<void> {
		const message = parseFrame(text);
		if (message instanceof StillpointError) {
			life.invalid += 1;
			if (!life.greeted || message.details["fatal"] === true || life.invalid >= invalidFramesLimit)
				return link.refuse(message);
			log.warn("agent message ignored", { agentId, code: message.code, reason: message.message });
			link.send({ type: "error", error: message.toJSON() });
			return;
		}
		if (message.type === "hello") return greet(message);
		if (!life.greeted) return link.refuse(new StillpointError("message-invalid", `"${message.type}" before "hello"`));
		if (message.type === "unreadable-report") link.send({ type: "error", error: errorOnWire(message.error) });
		if (message.type === "ticket-kept") return options.onTicketKept(link, message.ticket);
		if (message.type === "renew") return renew(message.csr);
		if (message.type === "response") return answer(message);
		return options.onWord(link, message);
	}

	async function greet(hello: Hello): Promise<void> {
		if (life.greeted) return link.refuse(new StillpointError("message-invalid", 'a second "hello"'));
		if (hello.protocol !== linkProtocolVersion) {
			const what = `the agent speaks protocol ${hello.protocol}, this controller ${linkProtocolVersion}`;
			const details = { supported: [linkProtocolVersion] };
			return link.refuse(new StillpointError("version-unsupported", what, { details }));
		}
		life.greeted = true;
		clearTimeout(helloTimer);
		try {
			const ticket = await options.onHello(link, hello);
			const time = new Date().toISOString();
			if (link.send({ type: "welcome", protocol: linkProtocolVersion, agentId, ticket, time }))
				options.onGreeted(link, hello);
		} catch (error) {
			if (!(error instanceof StillpointError)) throw error;
			link.refuse(error);
		}
	}

	async function renew(csr: string): Promise<void> {
		try {
			link.send({ type: "renewed", certificate: await options.onRenew(link, csr) });
		} catch (error) {
			const known = asStillpointError(error);
			log.warn("certificate not renewed", { agentId, code: known.code, reason: known.message });
			link.send({ type: "error", error: errorOnWire(known) });
		}
	}

	function answer(message: Extract<AgentMessage, { type: "response" }>): void {
		const waiting = requests.get(message.requestId);
		if (message.error === undefined) waiting?.resolve(message.result);
		else waiting?.reject(new StillpointError(message.error.code, message.error.message));
	}

	/** While a message is worked on nothing is read, and no silence is the agent's. */
	function beat(): void {
		if (socket.bytesRead !== life.bytesRead || life.working > 0) life.silent = 0;
		life.bytesRead = socket.bytesRead;
		life.silent += 1;
		if (life.silent > silentTicks) {
			log.warn("agent link silent", { agentId, ticks: silentTicks });
			socket.terminate();
		} else if (socket.isOpen) socket.ping();
	}

	const helloTimer = setTimeout(() => {
		link.refuse(new StillpointError("deadline-passed", `no "hello" within ${helloLimitMs} ms`));
	}, helloLimitMs);
	const heartbeat = setInterval(beat, tickMs);
	socket.listen({
		alive: heard,
		frame(text) {
			heard();
			if (!socket.isOpen) return;
			socket.pause();
			life.working += 1;
			life.work = life.work
				.then(() => receive(text))
				.catch((error) => {
					log.error("agent message failed", { agentId, error: asStillpointError(error).toJSON() });
					link.close(closeCodes.internal, "internal");
				})
				.finally(() => {
					life.working -= 1;
					socket.resume();
				});
		},
		broken: (error) => log.warn("agent link broke", { agentId, reason: error.message }),
		closed() {
			clearTimeout(helloTimer);
			clearInterval(heartbeat);
			heard();
			for (const waiting of requests.values()) waiting.reject(offline(agentId));
			options.onClosed(link);
		},
	});
	return link;
}

export function offline(agentId: string): StillpointError {
	return new StillpointError("agent-offline", `agent ${agentId} is not connected`, { details: { agentId } });
}

/** `details.fatal`: not even a message, so nothing that follows can be trusted either. */
function parseFrame(text: string | undefined): AgentMessage | UnreadableReport | StillpointError {
	const invalid = (what: string, details: Record<string, unknown> = {}) =>
		new StillpointError("message-invalid", what, { details });
	if (text === undefined) return invalid("a binary frame", { fatal: true });
	if (text.length > maxFrameBytes) return invalid("a frame above the limit", { fatal: true });
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch {
		return invalid("a frame that is not JSON", { fatal: true });
	}
	if (typeof value !== "object" || value === null || !("type" in value) || typeof value.type !== "string")
		return invalid("a frame without a type", { fatal: true });
	const parsed = checkShape(agentMessageSchema, value);
	if (parsed.success) return parsed.data;
	const { field, message } = describeIssue(parsed.error);
	const error = invalid(`message "${value.type.slice(0, 64)}", field "${field}": ${message}`, { field });
	const report = checkShape(unreadableReportSchema, value);
	if (!report.success) return error;
	const { sequence, report: content } = report.data;
	return { type: "unreadable-report", sequence, jobId: content?.jobId, text, error };
}

const unreadableReportSchema = z.object({
	type: z.literal("report"),
	sequence: z.int().positive(),
	report: z.object({ jobId: idSchema }).optional().catch(undefined),
});
