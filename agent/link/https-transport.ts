import { request } from "node:https";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { readAnswer } from "./controller-answer.ts";
import { connectTls } from "./controller-tls.ts";
import { findControllerCa } from "./find-controller-ca.ts";
import type { ControllerTransport } from "./link-transport.ts";
import { connectWebSocket } from "./web-socket-connection.ts";

/** TLS 1.3 to the controller, through an HTTP proxy when the configuration names one. */
export function makeHttpsTransport(proxyUrl: string | undefined): ControllerTransport {
	const proxy = proxyUrl === undefined ? undefined : new URL(proxyUrl);
	return {
		findAuthority: (url, fingerprint, signal) => findControllerCa({ url, proxy }, fingerprint, signal),
		post: (to, body, signal) => postJson({ ...to, proxy }, body, signal),
		connect: (target, signal) => connectWebSocket({ ...target, url: new URL(target.url), proxy }, signal),
	};
}

async function postJson(
	{ url, ca, proxy }: { url: URL; ca: string; proxy: URL | undefined },
	body: object,
	signal: AbortSignal,
): Promise<unknown> {
	const text = JSON.stringify(body);
	const socket = await connectTls({ url, ca, proxy }, signal);
	const answered = Promise.withResolvers<unknown>();
	const call = request(url, {
		method: "POST",
		signal,
		createConnection: () => socket,
		headers: { "content-type": "application/json", "content-length": Buffer.byteLength(text), connection: "close" },
	});
	call.on("error", (cause) =>
		answered.reject(new StillpointError("controller-unreachable", `${url.origin}: ${cause.message}`, { cause })),
	);
	call.on("response", (response) => {
		readAnswer(response, url.origin).then(answered.resolve, (error) => answered.reject(asStillpointError(error)));
	});
	call.end(text);
	try {
		return await answered.promise;
	} finally {
		socket.destroy();
	}
}
