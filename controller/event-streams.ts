import type { ServerResponse } from "node:http";
import type { ControllerEvent } from "../contracts/controller-api.ts";
import { StillpointError } from "../contracts/errors.ts";
import type { ControllerEvents, NumberedEvent } from "./events.ts";
import type { Log } from "./log.ts";

export type StreamLimits = {
	readonly perCredential: number;
	readonly inAll: number;
	/** A comment is sent as often, so that a dead connection is noticed and a living one is not cut by a proxy. */
	readonly heartbeatMs: number;
	/** Events that are kept for a reader that comes back or lags behind. */
	readonly eventsKept: number;
};

export const streamLimits: StreamLimits = { perCredential: 32, inAll: 256, heartbeatMs: 15_000, eventsKept: 1_024 };

export type StreamOptions = {
	readonly response: ServerResponse;
	readonly credential: string;
	/** In milliseconds since the epoch. */
	readonly credentialExpiresAtMs: number;
	/** What the reader saw last, of an earlier stream. */
	readonly lastEventId: string | undefined;
	readonly isWanted: (event: ControllerEvent) => boolean;
	/** After this one the stream ends. */
	readonly isLast: (event: ControllerEvent) => boolean;
	/** Read after its number was taken, so it may be newer than that, never older. */
	readonly readState: () => Promise<Extract<ControllerEvent, { type: "state" }>>;
	readonly isOver: (state: Extract<ControllerEvent, { type: "state" }>) => boolean;
};

/** Server-sent events (WHATWG HTML, section 9.2) to those who asked for them. */
export type EventStreams = AsyncDisposable & {
	/** `rate-limited` when too many are open. Resolves when the stream has begun; it ends by itself. */
	open(options: StreamOptions): Promise<void>;
	/** Those of a credential that is no longer good, at once. */
	cut(credential: string): void;
	readonly count: number;
};

type Stream = { readonly credential: string; beat(): void; cut(): void; end(): void };

export const streamHeaders = {
	"content-type": "text/event-stream; charset=utf-8",
	"cache-control": "no-store",
	// For a proxy that would collect what it should pass on.
	"x-accel-buffering": "no",
} as const;

/** So many heartbeats a reader may take nothing. */
const mostSilentBeats = 2;
const longestTimerMs = 2 ** 31 - 1;

export function makeEventStreams(events: ControllerEvents, limits: StreamLimits, log: Log): EventStreams {
	const streams = new Set<Stream>();
	const heartbeat = setInterval(() => {
		for (const stream of [...streams]) stream.beat();
	}, limits.heartbeatMs).unref();

	function requireRoom(credential: string): void {
		const own = [...streams].filter((one) => one.credential === credential).length;
		if (own < limits.perCredential && streams.size < limits.inAll) return;
		const what = own < limits.perCredential ? "event streams" : `event streams of ${credential}`;
		throw new StillpointError("rate-limited", `too many ${what} are open`, {
			details: { retryAfterS: Math.ceil(limits.heartbeatMs / 1_000), ...limits },
		});
	}

	return {
		get count() {
			return streams.size;
		},
		async open(options) {
			requireRoom(options.credential);
			const stream = beginStream(options, events, log, () => streams.delete(stream.handle));
			streams.add(stream.handle);
			await stream.begun.catch((error) => {
				stream.handle.cut();
				throw error;
			});
		},
		cut(credential) {
			for (const stream of [...streams]) if (stream.credential === credential) stream.cut();
		},
		async [Symbol.asyncDispose]() {
			clearInterval(heartbeat);
			for (const stream of [...streams]) stream.end();
		},
	};
}

/**
 * The backlog of a reader is the ring of events and its place in it: nothing is buffered for it but what its
 * connection takes. One that falls behind the ring is cut off; it may come back, and is told with `reset`.
 */
function beginStream(options: StreamOptions, events: ControllerEvents, log: Log, onGone: () => void) {
	const { response, credential } = options;
	const now = { cursor: events.head, isLive: false, isFull: false, isGone: false, silentBeats: 0 };

	function write(event: ControllerEvent, sequence: number): void {
		const text = `id: ${events.formatId(sequence)}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
		now.cursor = sequence;
		if (!response.write(text)) now.isFull = true;
	}

	function end(): void {
		if (!response.writable) return;
		write({ type: "end" }, now.cursor);
		now.isLive = false;
		response.end();
	}

	function cut(why: string): void {
		log.debug("event stream cut", { credential, why });
		// Of one whose headers are not out yet the answer is still to come.
		if (response.headersSent) response.destroy();
		else gone();
	}

	function send({ event, sequence }: NumberedEvent): void {
		now.cursor = sequence;
		if (!options.isWanted(event)) return;
		write(event, sequence);
		if (options.isLast(event)) end();
	}

	function pump(): void {
		if (!now.isLive || now.isFull) {
			if (now.isLive && events.findAfter(now.cursor) === undefined) cut("it does not read");
			return;
		}
		const missed = events.findAfter(now.cursor);
		if (missed === undefined) cut("it reads too slowly");
		for (const one of missed ?? []) {
			if (!now.isLive || now.isFull) return;
			send(one);
		}
	}

	async function begin(): Promise<void> {
		const { lastEventId } = options;
		const state = await options.readState();
		if (now.isGone) throw new StillpointError("certificate-revoked", `credential ${credential} is no longer good`);
		const seen = lastEventId === undefined ? undefined : events.parseId(lastEventId);
		const missed = seen === undefined ? undefined : events.findAfter(seen);
		if (seen !== undefined && missed !== undefined) {
			const isNews = missed.some(({ event }) => options.isWanted(event));
			if (options.isOver(state) && !isNews) {
				// The end was seen: this status tells an EventSource to stay away.
				response.writeHead(204).end();
				return gone();
			}
			writeHead(response);
			now.cursor = seen;
		} else {
			writeHead(response);
			if (lastEventId !== undefined) write({ type: "reset" }, now.cursor);
			write(state, now.cursor);
			if (options.isOver(state)) return end();
		}
		now.isLive = true;
		pump();
	}

	const stopListening = events.listen(pump);
	const expires = setTimeout(
		() => cut("its credential expired"),
		Math.min(Math.max(0, options.credentialExpiresAtMs - Date.now()), longestTimerMs),
	).unref();
	function gone(): void {
		now.isLive = false;
		now.isGone = true;
		clearTimeout(expires);
		stopListening();
		onGone();
	}
	response.on("close", gone);
	response.on("error", () => response.destroy());
	response.on("drain", () => {
		now.isFull = false;
		now.silentBeats = 0;
		pump();
	});
	const handle: Stream = {
		credential,
		end,
		cut: () => cut("its credential is no longer good"),
		beat() {
			if (!response.headersSent) return;
			if (now.isLive && !now.isFull) {
				if (!response.write(": still here\n\n")) now.isFull = true;
				return;
			}
			now.silentBeats += 1;
			if (now.silentBeats >= mostSilentBeats) cut("it does not read");
		},
	};
	return { handle, begun: begin() };
}

function writeHead(response: ServerResponse): void {
	response.writeHead(200, streamHeaders);
	response.flushHeaders();
}
