import { StillpointError } from "../contracts/errors.ts";
import { beginStream, type EventStream, type StreamOptions } from "./event-stream.ts";
import type { ControllerEvents } from "./events.ts";
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

/** Server-sent events (WHATWG HTML, section 9.2) to those who asked for them. */
export type EventStreams = AsyncDisposable & {
	/** `rate-limited` when too many are open. Resolves when the stream has begun; it ends by itself. */
	open(options: StreamOptions): Promise<void>;
	/** Those of a credential that is no longer good, at once. */
	cut(credential: string): void;
	readonly count: number;
};

export function makeEventStreams(events: ControllerEvents, limits: StreamLimits, log: Log): EventStreams {
	const streams = new Set<EventStream>();
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
			const stream = beginStream(options, events, log, () => streams.delete(stream));
			streams.add(stream);
			await stream.begun;
		},
		cut(credential) {
			for (const stream of [...streams])
				if (stream.credential === credential)
					stream.cut(new StillpointError("certificate-revoked", `credential ${credential} was revoked`));
		},
		async [Symbol.asyncDispose]() {
			clearInterval(heartbeat);
			for (const stream of [...streams]) stream.end();
		},
	};
}
