/**
 * One HTTP request whose connection and TLS session stand before it is sent: in the window nothing is looked up,
 * connected, or tried again.
 */
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { StillpointError } from "../../../contracts/errors.ts";

export type HttpAnswer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly body: string };

export type PreparedRequest = Disposable & {
	/** Connects; again when the connection was lost meanwhile. @throws `prepare-failed` naming the host */
	connect(limitMs: number): Promise<void>;
	/** Once, on the connection that there is. @throws `snapshot-failed`: whether the other side acted is not known then */
	send(limitMs: number): Promise<HttpAnswer>;
};

const maxAnswerBytes = 1024 * 1024;

/** @param url may hold a secret: nothing but its host and port is ever told. */
export function prepareRequest(
	url: URL,
	given: { readonly method: string; readonly headers: Readonly<Record<string, string>>; readonly body?: string },
): PreparedRequest {
	const body = Buffer.from(given.body ?? "");
	let socket: Socket | undefined;
	return {
		async connect(limitMs) {
			if (socket !== undefined && !socket.destroyed && socket.writable) return;
			socket = await openConnection(url, limitMs);
		},
		send: (limitMs) => {
			const connected = socket;
			if (connected === undefined || connected.destroyed || !connected.writable) {
				throw new StillpointError("snapshot-failed", `the connection to ${url.host} was lost`);
			}
			return exchange(connected, limitMs);
		},
		[Symbol.dispose]: () => void socket?.destroy(),
	};

	async function exchange(connected: Socket, limitMs: number): Promise<HttpAnswer> {
		const answer = Promise.withResolvers<HttpAnswer>();
		const fail = (what: string) => answer.reject(new StillpointError("snapshot-failed", `${url.host}: ${what}`));
		const request = httpRequest({
			createConnection: () => connected,
			method: given.method,
			path: `${url.pathname}${url.search}`,
			headers: { Host: url.host, "Content-Length": String(body.length), ...given.headers },
		});
		const timer = setTimeout(() => fail(`no answer within ${limitMs} ms`), limitMs);
		request.on("error", (error: NodeJS.ErrnoException) => fail(error.code ?? "the connection failed"));
		request.on("response", (response) => {
			const chunks: Buffer[] = [];
			let bytes = 0;
			response.on("data", (chunk: Buffer) => {
				bytes += chunk.length;
				if (bytes > maxAnswerBytes) fail("the answer is too large");
				else chunks.push(chunk);
			});
			response.on("error", () => fail("the answer was cut short"));
			response.on("end", () => {
				const text = Buffer.concat(chunks).toString("utf8");
				answer.resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text });
			});
		});
		request.end(body);
		try {
			return await answer.promise;
		} finally {
			clearTimeout(timer);
			connected.destroy();
		}
	}
}

async function openConnection(url: URL, limitMs: number): Promise<Socket> {
	const isSecure = url.protocol === "https:";
	const host = url.hostname.replaceAll(/^\[|\]$/g, "");
	const port = Number(url.port || (isSecure ? 443 : 80));
	const connected = Promise.withResolvers<void>();
	const failed = (what: string) =>
		connected.reject(new StillpointError("prepare-failed", `no connection to ${url.host}: ${what}`));
	const socket = isSecure
		? connectTls({ host, port, ALPNProtocols: ["http/1.1"], ...(isIP(host) > 0 ? {} : { servername: host }) })
		: connectTcp({ host, port });
	socket.on(isSecure ? "secureConnect" : "connect", () => connected.resolve());
	// Also for later: a connection that is lost while it waits must not end the process.
	socket.on("error", (error: NodeJS.ErrnoException) => failed(error.code ?? error.message));
	const timer = setTimeout(() => failed(`not within ${limitMs} ms`), limitMs);
	try {
		await connected.promise;
		socket.setNoDelay(true);
		return socket;
	} catch (error) {
		socket.destroy();
		throw error;
	} finally {
		clearTimeout(timer);
	}
}
