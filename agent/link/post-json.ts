import { request } from "node:https";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { readAnswer } from "./controller-answer.ts";
import { connectTls } from "./controller-tls.ts";

/** One request on a connection of its own. @throws as `ControllerTransport.post` */
export async function postJson(
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
