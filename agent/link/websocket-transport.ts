import { maxFrameBytes } from "../../contracts/controller-messages.ts";
import { StillpointError } from "../../contracts/errors.ts";
import type { ConnectLink } from "./link-transport.ts";

const connectLimitMs = 10_000;
const pingEveryMs = 1_500;
const silenceLimitMs = 4_500;
const maxWaitingBytes = 16 * 1024 * 1024;

/** A WebSocket with mutual TLS; only the CA of the enrolment is trusted. Text frames only, up to `maxFrameBytes`. */
export const connectWebSocket: ConnectLink = async (target, on, signal) => {
	const { WebSocket } = await import("ws");
	signal.throwIfAborted();
	const address = new URL("/v1/link", target.url);
	address.protocol = "wss:";
	const closed = new AbortController();
	const opened = Promise.withResolvers<void>();
	const socket = new WebSocket(address, {
		key: target.key,
		cert: target.certificate,
		ca: target.ca,
		handshakeTimeout: connectLimitMs,
		maxPayload: maxFrameBytes,
		perMessageDeflate: false,
		followRedirects: false,
	});
	let heardMs = performance.now();
	const heard = () => {
		heardMs = performance.now();
	};
	const end = (why: string, cause?: unknown) => {
		const error = new StillpointError("controller-unreachable", `${address.host}: ${why}`, { cause });
		opened.reject(error);
		clearInterval(timer);
		signal.removeEventListener("abort", stop);
		socket.terminate();
		closed.abort(error);
	};
	const timer = setInterval(() => {
		if (performance.now() - heardMs > silenceLimitMs) end(`nothing was heard for ${silenceLimitMs} ms`);
		else if (socket.readyState === WebSocket.OPEN) socket.ping();
	}, pingEveryMs);
	const stop = () => end("the agent stops");
	signal.addEventListener("abort", stop, { once: true });
	socket.on("error", (error) => end(error.message, error));
	socket.on("close", (code, reason) => end(`closed with ${code} ${reason.toString("utf8").slice(0, 200)}`));
	socket.on("ping", heard);
	socket.on("pong", heard);
	socket.on("open", () => {
		heard();
		opened.resolve();
	});
	socket.on("message", (data, isBinary) => {
		heard();
		if (isBinary) end("it sent a binary frame");
		else if (!closed.signal.aborted) on.text(String(data));
	});
	await opened.promise;
	return {
		closed: closed.signal,
		close: () => end("closed here"),
		send: (text) => {
			if (socket.readyState !== WebSocket.OPEN) return false;
			if (socket.bufferedAmount > maxWaitingBytes) {
				end("it does not read");
				return false;
			}
			socket.send(text);
			return true;
		},
	};
};
