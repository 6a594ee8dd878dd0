import { request } from "node:http";
import type { Socket } from "node:net";
import { StillpointError } from "../../contracts/errors.ts";

const answerLimitMs = 10_000;

/**
 * A connection through an HTTP proxy (CONNECT, RFC 9110 9.3.6). Node's parser bounds what the proxy may answer. Name and
 * password of the proxy's URL are sent to the proxy alone and stand in no error.
 * @throws `proxy-failed`
 */
export async function openProxyTunnel(proxy: URL, target: string, signal: AbortSignal): Promise<Socket> {
	const opened = Promise.withResolvers<Socket>();
	const failed = (why: string, cause?: unknown) =>
		opened.reject(new StillpointError("proxy-failed", `the proxy ${proxy.host} ${why}`, { cause }));
	const call = request({
		host: proxy.hostname.replace(/^\[|\]$/g, ""),
		port: Number(proxy.port || 80),
		method: "CONNECT",
		path: target,
		agent: false,
		headers: { host: target, ...authorization(proxy) },
	});
	const timer = setTimeout(() => {
		failed(`did not answer within ${answerLimitMs} ms`);
		call.destroy();
	}, answerLimitMs);
	const stop = () => {
		failed("did not answer in time", signal.reason);
		call.destroy();
	};
	signal.addEventListener("abort", stop, { once: true });
	if (signal.aborted) stop();
	call.on("error", (cause) => failed(`cannot be used: ${cause.message}`, cause));
	call.on("close", () => failed("hung up"));
	call.on("connect", ({ statusCode = 0 }, socket, head) => {
		if (statusCode === 200) {
			if (head.length > 0) socket.unshift(head);
			return opened.resolve(socket as Socket);
		}
		socket.destroy();
		failed(statusCode === 407 ? "wants another name and password (407)" : `refused with ${statusCode}`);
	});
	call.end();
	try {
		return await opened.promise;
	} finally {
		clearTimeout(timer);
		signal.removeEventListener("abort", stop);
	}
}

function authorization({ username, password }: URL): Record<string, string> {
	if (username === "") return {};
	const text = `${decoded(username)}:${decoded(password)}`;
	return { "proxy-authorization": `Basic ${Buffer.from(text).toString("base64")}` };
}

/** A percent sign that begins no escape stands for itself: it was written into the configuration as it is. */
function decoded(part: string): string {
	try {
		return decodeURIComponent(part);
	} catch {
		return part;
	}
}
