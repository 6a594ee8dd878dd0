import { performance } from "node:perf_hooks";
import { StillpointError } from "../contracts/errors.ts";
import type { Report } from "../contracts/report.ts";
import {
	type AgentLink,
	type AgentWord,
	closeCodes,
	type Hello,
	offline,
	type RequestMethod,
	serveAgentLink,
	type UnreadableReport,
} from "./agent-link.ts";
import { startDeadline } from "./deadline.ts";
import { type JobChannel, makeJobChannels } from "./job-channels.ts";
import type { LinkSocket } from "./link-socket.ts";
import type { Log } from "./log.ts";

export type AgentLinks = AsyncDisposable & {
	/**
	 * Takes over an authenticated connection. While the first one of an agent answers, a second one is refused with
	 * `identity-changed`: the agent ends its old connection before it makes a new one, so this is a copy of it.
	 */
	accept(socket: LinkSocket, agentId: string): void;
	/** Says the error on every connection of the agent and ends them. */
	refuse(agentId: string, error: StillpointError): void;
	isConnected(agentId: string): boolean;
	/** `agent-offline`, `deadline-passed`, or the agent's own error. */
	request(agentId: string, method: RequestMethod, limitMs: number): Promise<unknown>;
	/** `agent-offline` when it is not connected. */
	openChannel(agentId: string, agentJobId: string): JobChannel;
};

export type AgentLinksOptions = {
	readonly log: Log;
	/** Decides on a `hello`; the next ticket, or throws what the agent is refused with. */
	readonly greet: (agentId: string, hello: Hello) => Promise<string>;
	readonly onTicketKept: (agentId: string, ticket: string) => Promise<void>;
	/** The certificate for a request's key. */
	readonly renew: (agentId: string, csr: string) => Promise<string>;
	readonly onSeen: (agentId: string) => Promise<void>;
	/** Called when an agent was greeted, and when its connection ended without another one in its place. */
	readonly onPresence: (agentId: string, connected: boolean) => void;
	/**
	 * Resolves when the report is stored for good, or was before: then it is acknowledged. With the one that counts for
	 * the job.
	 */
	readonly onReport: (agentId: string, sequence: number, report: Report) => Promise<Report>;
	/** Resolves when it is stored for good: then it is acknowledged too, or it would block all later ones. */
	readonly onUnreadableReport: (agentId: string, report: UnreadableReport) => Promise<void>;
};

/** A living agent answers a ping at once; an ended connection that the network has not told of does not. */
const answerLimitMs = 2_000;

export function makeAgentLinks(options: AgentLinksOptions): AgentLinks {
	const { log, onSeen, onReport, onUnreadableReport } = options;
	const links = new Map<string, AgentLink>();
	/** By agent: the latest hello that is being decided on. */
	const greetings = new Map<string, Promise<unknown>>();
	const open = new Set<AgentLink>();
	const channels = makeJobChannels((agentId, message) => links.get(agentId)?.send(message) ?? false);

	/** One after the other for each agent: of two at a time the second must see the first. */
	function onHello(link: AgentLink, hello: Hello): Promise<string> {
		const { agentId } = link;
		const greeting = (greetings.get(agentId) ?? Promise.resolve())
			.catch(() => undefined)
			.then(async () => {
				if (await links.get(agentId)?.answers(answerLimitMs)) throw secondConnection(agentId, hello);
				return await options.greet(agentId, hello);
			})
			.finally(() => {
				if (greetings.get(agentId) === greeting) greetings.delete(agentId);
			});
		greetings.set(agentId, greeting);
		return greeting;
	}

	function onGreeted(link: AgentLink, hello: Hello): void {
		const { agentId } = link;
		const before = links.get(agentId);
		links.set(agentId, link);
		options.onPresence(agentId, true);
		if (before !== undefined) {
			log.warn("agent connected again, the first connection is dead", { agentId });
			channels.lose(agentId);
			before.close(closeCodes.policy, "replaced");
		}
		log.info("agent connected", { agentId, version: hello.version.slice(0, 64), hostname: hello.machine.hostname });
		const { runningJobId } = hello;
		if (!channels.tellReturn(agentId, runningJobId) && runningJobId !== undefined)
			link.send({ type: "cancel", jobId: runningJobId, code: "asker-lost" });
	}

	async function keepReport(agentId: string, word: AgentWord): Promise<AgentWord> {
		if (word.type === "report") return { ...word, report: await onReport(agentId, word.sequence, word.report) };
		if (word.type === "unreadable-report") await onUnreadableReport(agentId, word);
		return word;
	}

	async function onWord(link: AgentLink, said: AgentWord): Promise<void> {
		if (links.get(link.agentId) !== link) return;
		const word = await keepReport(link.agentId, said);
		if ("sequence" in word) link.send({ type: "ack", sequence: word.sequence });
		const jobId = word.type === "report" ? word.report.jobId : word.jobId;
		if (jobId !== undefined) channels.hear(link.agentId, jobId, word);
	}

	function onClosed(link: AgentLink): void {
		open.delete(link);
		if (links.get(link.agentId) !== link) return;
		links.delete(link.agentId);
		options.onPresence(link.agentId, false);
		channels.lose(link.agentId);
		log.info("agent disconnected", { agentId: link.agentId });
		onSeen(link.agentId).catch((error) => log.error("agent not marked as seen", { reason: String(error) }));
	}

	return {
		accept(socket, agentId) {
			const link = serveAgentLink({
				socket,
				agentId,
				log,
				onClosed,
				onWord,
				onGreeted,
				onHello,
				onTicketKept: (from, ticket) => options.onTicketKept(from.agentId, ticket),
				onRenew: (from, csr) => options.renew(from.agentId, csr),
			});
			open.add(link);
		},
		refuse(agentId, error) {
			for (const link of open) if (link.agentId === agentId) link.refuse(error);
		},
		isConnected: (agentId) => links.has(agentId),
		async request(agentId, method, limitMs) {
			const link = links.get(agentId);
			if (link === undefined) throw offline(agentId);
			using deadline = startDeadline(limitMs, `${method} of agent ${agentId}`);
			return await link.request(method, deadline.signal);
		},
		openChannel(agentId, agentJobId) {
			if (!links.has(agentId)) throw offline(agentId);
			return channels.open(agentId, agentJobId);
		},
		async [Symbol.asyncDispose]() {
			for (const link of open) link.close(closeCodes.goingAway, "stopping");
			const deadlineMs = performance.now() + 1_500;
			while (open.size > 0 && performance.now() < deadlineMs) await new Promise((resolve) => setTimeout(resolve, 20));
		},
	};
}

function secondConnection(agentId: string, { machine }: Hello): StillpointError {
	const what = `agent ${agentId} is connected already; one of the two is a copy of the other`;
	const { hostname, bootId } = machine;
	return new StillpointError("identity-changed", what, { details: { hostname, bootId } });
}
