import type { ServerResponse } from "node:http";
import type { ControllerEvent } from "../contracts/controller-api.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import type { ControllerEvents, NumberedEvent } from "./events.ts";
import type { Log } from "./log.ts";

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

export type EventStream = {
	readonly credential: string;
	/** Rejects when there will be no stream, with what is to be answered instead. */
	readonly begun: Promise<void>;
	/** Sends a heartbeat, and cuts who took nothing since the one before last. */
	beat(): void;
	/** At once; the reason is answered where nothing was answered yet. */
	cut(why: StillpointError): void;
	/** After the word `end`. */
	end(): void;
};

export const streamHeaders = {
	"content-type": "text/event-stream; charset=utf-8",
	"cache-control": "no-store",
	// For a proxy that would collect what it should pass on.
	"x-accel-buffering": "no",
} as const;

/** So many heartbeats a reader may take nothing. */
const mostSilentBeats = 2;
const longestTimerMs = 2 ** 31 - 1;

/**
 * The backlog of a reader is the ring of events and its place in it: nothing is buffered for it but what its
 * connection takes. One that falls behind the ring is cut off; it may come back, and is told with `reset`.
 */
export function beginStream(
	options: StreamOptions,
	events: ControllerEvents,
	log: Log,
	/** Called when nothing of it is left; perhaps more than once. */
	onGone: () => void,
): EventStream {
	const { response, credential } = options;
	const now = { cursor: events.head, isLive: false, isFull: false, silentBeats: 0 };
	const over = new AbortController();

	function write(event: ControllerEvent, sequence: number): void {
		const text = `id: ${events.formatId(sequence)}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
		now.cursor = sequence;
		if (!response.write(text)) now.isFull = true;
	}

	function end(): void {
		if (!response.headersSent) cut(new StillpointError("stopping", "the controller is stopping"));
		if (!response.headersSent || !response.writable) return;
		write({ type: "end" }, now.cursor);
		now.isLive = false;
		response.end();
	}

	function cut(why: StillpointError): void {
		log.debug("event stream cut", { credential, reason: why.message });
		if (response.headersSent) response.destroy();
		gone(why);
	}

	function send({ event, sequence }: NumberedEvent): void {
		now.cursor = sequence;
		if (!options.isWanted(event)) return;
		write(event, sequence);
		if (options.isLast(event)) end();
	}

	function pump(): void {
		if (!now.isLive || now.isFull) {
			if (now.isLive && events.findAfter(now.cursor) === undefined) cut(slow());
			return;
		}
		const missed = events.findAfter(now.cursor);
		if (missed === undefined) cut(slow());
		for (const one of missed ?? []) {
			if (!now.isLive || now.isFull) return;
			send(one);
		}
	}

	async function begin(): Promise<void> {
		const { lastEventId } = options;
		const state = await options.readState();
		over.signal.throwIfAborted();
		// Who went before there was a stream is told of by no event any more.
		if (response.closed || response.destroyed) return gone();
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
		() => cut(new StillpointError("certificate-invalid", `credential ${credential} expired`)),
		Math.min(Math.max(0, options.credentialExpiresAtMs - Date.now()), longestTimerMs),
	).unref();
	function gone(why?: StillpointError): void {
		now.isLive = false;
		over.abort(why ?? new StillpointError("asker-lost", "the reader went away"));
		clearTimeout(expires);
		stopListening();
		onGone();
	}
	response.on("close", () => gone());
	response.on("error", () => response.destroy());
	response.on("drain", () => {
		now.isFull = false;
		now.silentBeats = 0;
		pump();
	});
	const begun = begin().catch((error) => {
		cut(asStillpointError(error));
		throw error;
	});
	return {
		credential,
		begun,
		end,
		cut,
		beat() {
			if (!response.headersSent) return;
			if (now.isLive && !now.isFull) {
				if (!response.write(": still here\n\n")) now.isFull = true;
				return;
			}
			now.silentBeats += 1;
			if (now.silentBeats >= mostSilentBeats) cut(slow());
		},
	};
}

function slow(): StillpointError {
	return new StillpointError("deadline-passed", "the reader takes too little");
}

function writeHead(response: ServerResponse): void {
	response.writeHead(200, streamHeaders);
	response.flushHeaders();
}
