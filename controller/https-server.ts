import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { getRequestListener, type HttpBindings } from "@hono/node-server";
import type { Hono } from "hono";
import { WebSocketServer } from "ws";
import { maxFrameBytes } from "../contracts/controller-messages.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import type { AgentLinks } from "./agent-links.ts";
import { identifyCaller, requireAccess } from "./caller.ts";
import type { KeyAndCertificate } from "./certificate-authority.ts";
import type { Credentials } from "./credentials.ts";
import { httpStatusOf } from "./http-status.ts";
import { webSocketLink } from "./link-socket.ts";
import type { Log } from "./log.ts";
import type { RateLimits } from "./rate-limits.ts";
import { type ConnectionLimits, makeStrangerConnections } from "./stranger-connections.ts";

export type HttpsServerOptions = {
	readonly host: string;
	readonly port: number;
	readonly identity: KeyAndCertificate;
	/** PEM: client certificates of anybody else count as none. */
	readonly ca: string;
	readonly api: Hono<{ Bindings: HttpBindings }>;
	readonly links: AgentLinks;
	readonly credentials: Pick<Credentials, "check">;
	readonly rates: RateLimits;
	readonly connections: ConnectionLimits;
	readonly log: Log;
};

export type HttpsServer = AsyncDisposable & {
	readonly port: number;
	/** Takes no more connections; those that are there go on. */
	stopListening(): void;
};

/** One port: HTTP for the API, and the WebSocket of the agents at /v1/link. TLS 1.3; who may do what is decided per request. */
export async function startHttpsServer(options: HttpsServerOptions): Promise<HttpsServer> {
	const { identity, ca, api, connections, log } = options;
	const answer = getRequestListener(api.fetch, { errorHandler: answerBrokenRequest });
	const server = createServer(
		{
			key: identity.key,
			cert: identity.certificate,
			ca,
			minVersion: "TLSv1.3",
			requestCert: true,
			// Without a certificate one may still enrol; and a refusal shall have a code.
			rejectUnauthorized: false,
			handshakeTimeout: 10_000,
			headersTimeout: 10_000,
			requestTimeout: 30_000,
			keepAliveTimeout: 30_000,
			connectionsCheckingInterval: 5_000,
		},
		(incoming, outgoing) => {
			// A long wait for an answer is none of the reader's fault.
			outgoing.setTimeout(connections.readerMs, () => {
				const { socket } = incoming;
				if (socket.writableLength === 0) return;
				log.debug("slow reader cut", { address: socket.remoteAddress });
				socket.destroy();
			});
			return answer(incoming, outgoing);
		},
	);
	const strangers = makeStrangerConnections(connections, (address) => log.debug("connection cut", { address }));
	server.on("connection", (socket) => strangers.admit(socket as Socket));
	server.on("secureConnection", (socket) => {
		if (socket.authorized) strangers.release(socket);
	});
	const sockets = new WebSocketServer({ noServer: true, maxPayload: maxFrameBytes, perMessageDeflate: false });
	server.on("upgrade", (request, socket, head) => {
		socket.on("error", () => socket.destroy());
		upgrade(options, sockets, request, socket, head).catch((error) => refuseUpgrade(socket, error));
	});
	server.on("clientError", refuseBrokenRequest);
	server.on("checkExpectation", (_, response) => {
		const error = new StillpointError("message-invalid", "the only expectation that is met is 100-continue");
		response.writeHead(417, { "content-type": "application/json" }).end(bodyOf(error));
	});
	server.on("tlsClientError", (error) => log.debug("TLS refused", { reason: error.message }));
	await listen(server, options.host, options.port);
	return {
		port: (server.address() as AddressInfo).port,
		stopListening() {
			server.close();
		},
		async [Symbol.asyncDispose]() {
			const closed = server.listening ? once(server, "close") : undefined;
			server.close();
			server.closeAllConnections();
			for (const socket of sockets.clients) socket.terminate();
			sockets.close();
			await closed;
		},
	};
}

async function upgrade(
	{ links, credentials, rates }: HttpsServerOptions,
	sockets: WebSocketServer,
	request: IncomingMessage,
	socket: Duplex,
	head: Buffer,
): Promise<void> {
	const connection = request.socket as TLSSocket;
	const caller = await credentials.check(identifyCaller(connection));
	if (caller.role === "agent") await rates.takeLink(caller.name);
	else await rates.takeRequest(caller, connection.remoteAddress ?? "unknown", false);
	// What is no URL at all has no path either.
	if (URL.parse(request.url ?? "/", "https://controller")?.pathname !== "/v1/link")
		throw new StillpointError("not-found", "the link is at /v1/link");
	const { name } = requireAccess(caller, "agent");
	sockets.handleUpgrade(request, socket, head, (opened) => links.accept(webSocketLink(opened, connection), name));
}

function refuseUpgrade(socket: Duplex, thrown: unknown): void {
	const error = asStillpointError(thrown);
	writeRefusal(socket, httpStatusOf(error.code), error);
}

/** What never became a request: the reasons of Node's HTTP parser. */
function refuseBrokenRequest(reason: NodeJS.ErrnoException, socket: Duplex): void {
	if (!socket.writable) socket.destroy();
	else if (reason.code === "HPE_HEADER_OVERFLOW")
		writeRefusal(socket, 431, new StillpointError("message-too-large", "the headers are larger than 16 KiB"));
	else if (reason.code === "ERR_HTTP_REQUEST_TIMEOUT")
		writeRefusal(socket, 408, new StillpointError("deadline-passed", "the request did not come in time"));
	else if (reason.code?.startsWith("HPE_") === true)
		writeRefusal(socket, 400, new StillpointError("message-invalid", "this is no HTTP request"));
	// A handshake that failed or never came: there is nobody to talk to.
	else socket.destroy();
}

/** What HTTP's parser took and is no request to an address all the same: no host, no path. */
function answerBrokenRequest(thrown: unknown): Response {
	const isTheirs = thrown instanceof Error && thrown.name === "RequestError";
	const what = "this is no request to an address of this controller";
	const error = isTheirs ? new StillpointError("message-invalid", what) : asStillpointError(thrown);
	const headers = { "content-type": "application/json" };
	return new Response(bodyOf(error), { status: httpStatusOf(error.code), headers });
}

/** The other end is not waited for: it may never close its own side. */
const refusalMs = 1_000;

function writeRefusal(socket: Duplex, status: number, error: StillpointError): void {
	const body = bodyOf(error);
	const { retryAfterS } = error.details;
	const lines = [
		`HTTP/1.1 ${status} Refused`,
		"Content-Type: application/json",
		`Content-Length: ${Buffer.byteLength(body)}`,
		"Connection: close",
		`Date: ${new Date().toUTCString()}`,
		...(typeof retryAfterS === "number" ? [`Retry-After: ${retryAfterS}`] : []),
	];
	socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`);
	const timer = setTimeout(() => socket.destroy(), refusalMs).unref();
	socket.once("close", () => clearTimeout(timer));
}

function bodyOf(error: StillpointError): string {
	return JSON.stringify({ error: error.toJSON() });
}

async function listen(server: Server, host: string, port: number): Promise<void> {
	try {
		server.listen(port, host);
		await once(server, "listening");
	} catch (error) {
		const why = error instanceof Error ? error.message : String(error);
		throw new StillpointError("address-unusable", `cannot listen on ${host}:${port}: ${why}`, { cause: error });
	}
}
