import { maxFrameBytes } from "../../contracts/controller-messages.ts";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { readAnswer } from "./controller-answer.ts";
import { connectTls } from "./controller-tls.ts";
import type { LinkConnection, LinkTarget } from "./link-transport.ts";

const handshakeLimitMs = 10_000;
const pingEveryMs = 1_500;
const silenceLimitMs = 4_500;
const maxWaitingBytes = 16 * 1024 * 1024;

/** A WebSocket with mutual TLS; only the CA of the enrolment is trusted. Text frames only, up to `maxFrameBytes`. */
export async function connectWebSocket(
	target: Omit<LinkTarget, "url"> & { readonly url: URL; readonly proxy: URL | undefined },
	signal: AbortSignal,
): Promise<LinkConnection> {
	const { WebSocket } = await import("ws");
	signal.throwIfAborted();
	const address = new URL("/v1/link", target.url);
	address.protocol = "wss:";
	const tls = await connectTls(target, signal);
	const closed = new AbortController();
	const opened = Promise.withResolvers<void>();
	const socket = new WebSocket(address, {
		createConnection: () => tls,
		handshakeTimeout: handshakeLimitMs,
		maxPayload: maxFrameBytes,
		perMessageDeflate: false,
		followRedirects: false,
	});
	const life = { heardMs: performance.now(), bytesRead: 0 };
	const heard = () => {
		life.heardMs = performance.now();
	};
	const endWith = (error: StillpointError) => {
		opened.reject(error);
		clearInterval(timer);
		signal.removeEventListener("abort", stop);
		socket.terminate();
		tls.destroy();
		closed.abort(error);
	};
	const end = (why: string, cause?: unknown) =>
		endWith(new StillpointError("controller-unreachable", `${address.host}: ${why}`, { cause }));
	const beat = () => {
		// Parts of a large frame are a sign of life, too.
		if (tls.bytesRead !== life.bytesRead) heard();
		life.bytesRead = tls.bytesRead;
		if (performance.now() - life.heardMs > silenceLimitMs) end(`nothing was heard for ${silenceLimitMs} ms`);
		else if (socket.readyState === WebSocket.OPEN) socket.ping();
	};
	const timer = setInterval(beat, pingEveryMs);
	const stop = () => end("the agent stops");
	signal.addEventListener("abort", stop, { once: true });
	socket.on("unexpected-response", (_, response) => {
		readAnswer(response, address.host).then(
			() => end("it answered, but opened no link"),
			(error) => endWith(asStillpointError(error)),
		);
	});
	socket.on("error", (error) => end(error.message, error));
	socket.on("close", (code, reason) => end(`closed with ${code} ${reason.toString("utf8").slice(0, 200)}`));
	socket.on("ping", heard);
	socket.on("pong", heard);
	socket.on("open", () => {
		heard();
		// The first frames may have come with the answer: none is read before somebody listens.
		socket.pause();
		opened.resolve();
	});
	await opened.promise;
	return {
		listen(onText) {
			socket.on("message", (data, isBinary) => {
				heard();
				if (isBinary) end("it sent a binary frame");
				else if (!closed.signal.aborted) onText(String(data));
			});
			socket.resume();
		},
		closed: closed.signal,
		close: () => end("closed here"),
		get waitingBytes() {
			return socket.bufferedAmount;
		},
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
}
