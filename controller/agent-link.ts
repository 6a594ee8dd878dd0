import { randomUUID } from "node:crypto";
import type { RawData, WebSocket } from "ws";
import { z } from "zod";
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
};

export type AgentLinkOptions = {
	readonly socket: WebSocket;
	readonly agentId: string;
	readonly log: Log;
	/** Called once, after `hello`; `welcome` is sent when it has ended. */
	readonly onHello: (link: AgentLink, hello: Hello) => Promise<void>;
	/** Called once, right after `welcome` was sent: from here on anything else may be. */
	readonly onGreeted: (link: AgentLink, hello: Hello) => void;
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
/** RFC 6455, 7.4.1 */
export const closeCodes = { goingAway: 1001, policy: 1008, tooLarge: 1009, internal: 1011 } as const;

/** Serves one connection: hello and welcome, schema check, heartbeat, requests. The socket's `maxPayload` is `maxFrameBytes`. */
export function serveAgentLink(options: AgentLinkOptions): AgentLink {
	const { socket, agentId, log } = options;
	const requests = new Map<string, PromiseWithResolvers<unknown>>();
	const life = { greeted: false, silent: 0, invalid: 0, work: Promise.resolve() };

	const link: AgentLink = {
		agentId,
		send(message) {
			if (socket.readyState !== socket.OPEN) return false;
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
	};

	function refuse(error: StillpointError, closeCode: number): void {
		log.warn("agent link refused", { agentId, code: error.code, reason: error.message });
		link.send({ type: "error", error: error.toJSON() });
		link.close(closeCode, error.code);
	}

	async function receive(data: RawData, isBinary: boolean): Promise<void> {
		const message = parseFrame(data, isBinary);
		if (message instanceof StillpointError) {
			life.invalid += 1;
			if (!life.greeted || message.details["fatal"] === true || life.invalid >= invalidFramesLimit)
				return refuse(message, closeCodes.policy);
			log.warn("agent message ignored", { agentId, code: message.code, reason: message.message });
			link.send({ type: "error", error: message.toJSON() });
			return;
		}
		if (message.type === "hello") return greet(message);
		if (!life.greeted)
			return refuse(new StillpointError("message-invalid", `"${message.type}" before "hello"`), closeCodes.policy);
		if (message.type === "unreadable-report") link.send({ type: "error", error: errorOnWire(message.error) });
		if (message.type === "ticket-kept" || message.type === "renew") return;
		if (message.type !== "response") return options.onWord(link, message);
		const answer = requests.get(message.requestId);
		if (message.error === undefined) answer?.resolve(message.result);
		else answer?.reject(new StillpointError(message.error.code, message.error.message));
	}

	async function greet(hello: Hello): Promise<void> {
		if (life.greeted) return refuse(new StillpointError("message-invalid", 'a second "hello"'), closeCodes.policy);
		if (hello.protocol !== linkProtocolVersion) {
			const what = `the agent speaks protocol ${hello.protocol}, this controller ${linkProtocolVersion}`;
			const details = { supported: [linkProtocolVersion] };
			return refuse(new StillpointError("version-unsupported", what, { details }), closeCodes.policy);
		}
		life.greeted = true;
		clearTimeout(helloTimer);
		await options.onHello(link, hello);
		if (link.send({ type: "welcome", protocol: linkProtocolVersion, agentId })) options.onGreeted(link, hello);
	}

	const helloTimer = setTimeout(() => {
		refuse(new StillpointError("deadline-passed", `no "hello" within ${helloLimitMs} ms`), closeCodes.policy);
	}, helloLimitMs);
	const heartbeat = setInterval(() => {
		life.silent += 1;
		if (life.silent > silentTicks) {
			log.warn("agent link silent", { agentId, ticks: silentTicks });
			socket.terminate();
		} else if (socket.readyState === socket.OPEN) socket.ping();
	}, tickMs);
	const heard = () => {
		life.silent = 0;
	};
	socket.on("pong", heard);
	socket.on("ping", heard);
	socket.on("message", (data, isBinary) => {
		heard();
		if (socket.readyState !== socket.OPEN) return;
		socket.pause();
		life.work = life.work
			.then(() => receive(data, isBinary))
			.catch((error) => {
				log.error("agent message failed", { agentId, error: asStillpointError(error).toJSON() });
				link.close(closeCodes.internal, "internal");
			})
			.finally(() => socket.resume());
	});
	socket.on("error", (error) => log.warn("agent link broke", { agentId, reason: error.message }));
	socket.on("close", () => {
		clearTimeout(helloTimer);
		clearInterval(heartbeat);
		for (const answer of requests.values()) answer.reject(offline(agentId));
		options.onClosed(link);
	});
	return link;
}

export function offline(agentId: string): StillpointError {
	return new StillpointError("agent-offline", `agent ${agentId} is not connected`, { details: { agentId } });
}

/** `details.fatal`: not even a message, so nothing that follows can be trusted either. */
function parseFrame(data: RawData, isBinary: boolean): AgentMessage | UnreadableReport | StillpointError {
	const invalid = (what: string, details: Record<string, unknown> = {}) =>
		new StillpointError("message-invalid", what, { details });
	if (isBinary) return invalid("a binary frame", { fatal: true });
	const text = data.toString();
	if (text.length > maxFrameBytes) return invalid("a frame above the limit", { fatal: true });
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch {
		return invalid("a frame that is not JSON", { fatal: true });
	}
	if (typeof value !== "object" || value === null || !("type" in value) || typeof value.type !== "string")
		return invalid("a frame without a type", { fatal: true });
	const parsed = agentMessageSchema.safeParse(value);
	if (parsed.success) return parsed.data;
	const { field, message } = describeIssue(parsed.error);
	const error = invalid(`message "${value.type.slice(0, 64)}", field "${field}": ${message}`, { field });
	const report = unreadableReportSchema.safeParse(value);
	if (!report.success) return error;
	const { sequence, report: content } = report.data;
	return { type: "unreadable-report", sequence, jobId: content?.jobId, text, error };
}

const unreadableReportSchema = z.object({
	type: z.literal("report"),
	sequence: z.int().positive(),
	report: z.object({ jobId: idSchema }).optional().catch(undefined),
});
