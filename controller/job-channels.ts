import type { ControllerMessage } from "../contracts/controller-messages.ts";
import { StillpointError } from "../contracts/errors.ts";
import type { AgentWord } from "./agent-link.ts";
import { raceSignal } from "./deadline.ts";

type WordOf<T extends AgentWord["type"]> = Extract<AgentWord, { type: T }>;

/** What one job says and hears, whichever connection carries it. Words that came early wait here until asked for. */
export type JobChannel = Disposable & {
	/** False when the agent is not connected. */
	send(message: ControllerMessage): boolean;
	/** The latest word of the first of these types that came or comes; each word is given once. */
	next<T extends AgentWord["type"]>(types: readonly T[], signal: AbortSignal): Promise<WordOf<T>>;
	/** A word that came already; it is given once, as by `next`. */
	find<T extends AgentWord["type"]>(types: readonly T[]): WordOf<T> | undefined;
	/** The connection that was there at the opening ended; a later one does not undo it. */
	readonly lost: AbortSignal;
	/** Called when the agent connects again, with whether it says that it runs this job. */
	onReturn: ((runs: boolean) => void) | undefined;
};

export type JobChannels = {
	open(agentId: string, agentJobId: string): JobChannel;
	/** What the agent said of the job. */
	hear(agentId: string, agentJobId: string, word: AgentWord): void;
	/** The agent's connection ended. */
	lose(agentId: string): void;
	/** The agent is connected again, and says which job it runs. False when nobody here waits for that one. */
	tellReturn(agentId: string, runningJobId: string | undefined): boolean;
};

type OpenChannel = {
	readonly agentId: string;
	readonly agentJobId: string;
	readonly channel: JobChannel;
	hear(word: AgentWord): void;
	lose(): void;
};

/** @param send to the agent's connection, if there is one. */
export function makeJobChannels(send: (agentId: string, message: ControllerMessage) => boolean): JobChannels {
	const open = new Set<OpenChannel>();
	const channelsOf = (agentId: string) => [...open].filter((one) => one.agentId === agentId);
	return {
		open(agentId, agentJobId) {
			const one = openChannel({ agentId, agentJobId, send, onClosed: () => open.delete(one) });
			open.add(one);
			return one.channel;
		},
		hear(agentId, agentJobId, word) {
			for (const one of channelsOf(agentId)) if (one.agentJobId === agentJobId) one.hear(word);
		},
		lose(agentId) {
			for (const one of channelsOf(agentId)) one.lose();
		},
		tellReturn(agentId, runningJobId) {
			const waiting = channelsOf(agentId).filter(({ channel }) => channel.onReturn !== undefined);
			for (const one of waiting) one.channel.onReturn?.(one.agentJobId === runningJobId);
			return waiting.some((one) => one.agentJobId === runningJobId);
		},
	};
}

function openChannel(given: {
	readonly agentId: string;
	readonly agentJobId: string;
	readonly send: (agentId: string, message: ControllerMessage) => boolean;
	readonly onClosed: () => void;
}): OpenChannel {
	const { agentId, agentJobId } = given;
	const heard = new Map<string, AgentWord>();
	const waiting = new Set<() => void>();
	const lost = new AbortController();
	const channel: JobChannel = {
		lost: lost.signal,
		onReturn: undefined,
		send: (message) => given.send(agentId, message),
		find(types) {
			const type = types.find((one) => heard.has(one));
			const word = type === undefined ? undefined : heard.get(type);
			if (word !== undefined) heard.delete(word.type);
			return word as never;
		},
		async next(types, signal) {
			for (;;) {
				const word = channel.find(types);
				if (word !== undefined) return word;
				const { promise, resolve } = Promise.withResolvers<void>();
				waiting.add(resolve);
				try {
					await raceSignal(promise, signal);
				} finally {
					waiting.delete(resolve);
				}
			}
		},
		[Symbol.dispose]: given.onClosed,
	};
	return {
		agentId,
		agentJobId,
		channel,
		hear(word) {
			heard.set(word.type, word);
			for (const resolve of waiting) resolve();
		},
		lose: () => lost.abort(new StillpointError("agent-offline", `the link to agent ${agentId} was lost`)),
	};
}
