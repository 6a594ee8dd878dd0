import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { type Agent, request } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { createParser } from "eventsource-parser";
import { checkShape } from "../contracts/check-shape.ts";
import { type ControllerEvent, controllerEventSchema } from "../contracts/controller-api.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import { parseRefusal } from "./client-call.ts";

export type FollowOptions = {
	readonly url: string;
	readonly agent: Agent;
	readonly path: string;
	readonly signal?: AbortSignal | undefined;
};

/** The controller sends a heartbeat every 15 s. */
const silenceLimitMs = 45_000;
const answerLimitMs = 30_000;
const firstPauseMs = 200;
const longestPauseMs = 5_000;
/** So long without a connection end the following. */
const awayLimitMs = 60_000;
const largestEventBytes = 8 * 1024 * 1024;

type Place = { lastEventId: string | undefined; ended: boolean };

/**
 * Events as they come, from `state` on. A broken connection is made again and goes on after the last event seen, or with
 * `reset` and `state`. Ends after `end`; @throws what the controller refuses it with, `controller-unreachable` when it
 * was never there or stays away, or the reason of the signal.
 */
export async function* followEvents(options: FollowOptions): AsyncGenerator<ControllerEvent> {
	const place: Place = { lastEventId: undefined, ended: false };
	const away = { sinceMs: performance.now(), pauseMs: firstPauseMs };
	for (;;) {
		try {
			for await (const event of readStream(options, place)) {
				away.sinceMs = performance.now();
				away.pauseMs = firstPauseMs;
				yield event;
			}
			if (place.ended) return;
		} catch (thrown) {
			options.signal?.throwIfAborted();
			const error = asStillpointError(thrown);
			// One that was never there is a wrong address, and nothing to wait for.
			const isAway = error.code === "controller-unreachable" && place.lastEventId !== undefined;
			const mayComeBack = isAway || error.code === "rate-limited";
			if (!mayComeBack || performance.now() - away.sinceMs > awayLimitMs) throw error;
		}
		await sleep(
			away.pauseMs * (0.5 + Math.random()),
			undefined,
			options.signal ? { signal: options.signal } : {},
		).catch((error: unknown) => {
			options.signal?.throwIfAborted();
			throw error;
		});
		away.pauseMs = Math.min(away.pauseMs * 2, longestPauseMs);
	}
}

/** One connection. */
async function* readStream(options: FollowOptions, place: Place): AsyncGenerator<ControllerEvent> {
	const incoming = await open(options, place.lastEventId);
	const { path } = options;
	if (incoming.statusCode === 204) {
		place.ended = true;
		incoming.resume();
		return;
	}
	if (incoming.statusCode !== 200) throw parseRefusal(await readWhole(incoming, options), `GET ${path}`);
	const found: ControllerEvent[] = [];
	const parser = createParser({
		maxBufferSize: largestEventBytes,
		onEvent({ id, data }) {
			const parsed = parseEvent(data);
			place.lastEventId = id ?? place.lastEventId;
			place.ended ||= parsed?.type === "end";
			if (parsed !== undefined) found.push(parsed);
		},
		onError(error) {
			// Anything else is a field of a later version.
			if (error.type !== "max-buffer-size-exceeded") return;
			throw new StillpointError("message-invalid", `GET ${path}: ${error.message}`, { cause: error });
		},
	});
	const text = new TextDecoder();
	try {
		for await (const chunk of incoming as AsyncIterable<Buffer>) {
			parser.feed(text.decode(chunk, { stream: true }));
			yield* found.splice(0);
			if (place.ended) return;
		}
	} catch (error) {
		if (error instanceof StillpointError) throw error;
		throw unreachable(options, error);
	} finally {
		incoming.destroy();
	}
}

async function open({ url, agent, path, signal }: FollowOptions, lastEventId: string | undefined) {
	const headers = {
		accept: "text/event-stream",
		...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }),
	};
	const limit = AbortSignal.timeout(answerLimitMs);
	const outgoing = request(new URL(path, url), {
		agent,
		headers,
		timeout: silenceLimitMs,
		...(signal ? { signal } : {}),
	});
	outgoing.on("timeout", () => outgoing.destroy(new Error(`silent for ${silenceLimitMs} ms`)));
	outgoing.end();
	try {
		const [incoming] = (await once(outgoing, "response", { signal: limit })) as [IncomingMessage];
		outgoing.on("error", () => undefined);
		return incoming;
	} catch (error) {
		outgoing.on("error", () => undefined);
		outgoing.destroy();
		signal?.throwIfAborted();
		throw unreachable({ url, agent, path }, error);
	}
}

async function readWhole(incoming: IncomingMessage, options: FollowOptions): Promise<string> {
	try {
		return Buffer.concat(await incoming.toArray()).toString();
	} catch (error) {
		throw unreachable(options, error);
	}
}

function unreachable({ url }: FollowOptions, error: unknown): StillpointError {
	const why = error instanceof Error ? error.message : String(error);
	return new StillpointError("controller-unreachable", `${url}: ${why}`, { cause: error });
}

/** Undefined for one of a later version: it is not for us. */
function parseEvent(data: string): ControllerEvent | undefined {
	let value: unknown;
	try {
		value = JSON.parse(data);
	} catch (error) {
		throw new StillpointError("message-invalid", "an event is not JSON", { cause: error });
	}
	const parsed = checkShape(controllerEventSchema, value);
	return parsed.success ? parsed.data : undefined;
}
