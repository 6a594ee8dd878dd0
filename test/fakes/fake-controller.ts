/** A controller with mutual TLS that does as a test says: enrols, greets, answers, or misbehaves. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { type WebSocket, WebSocketServer } from "ws";
import { type AgentMessage, type ControllerMessage, maxFrameBytes } from "../../contracts/controller-messages.ts";
import type { ErrorCode } from "../../contracts/errors.ts";
import { type CertificateAuthority, openCertificateAuthority } from "../../controller/certificate-authority.ts";
import { formatToken, makeToken } from "../../controller/tokens.ts";

export type FakeControllerBehaviour = {
	/** Default: true. */
	welcomes: boolean;
	acknowledges: boolean;
	/** What every hello is refused with. Default: none is. */
	refusesWith: ErrorCode | undefined;
	/** How far its clock is ahead. */
	clockAheadMs: number;
};

export type FakeController = AsyncDisposable & {
	readonly url: string;
	readonly token: string;
	readonly behaviour: FakeControllerBehaviour;
	/** All that any agent sent, in order. */
	readonly messages: AgentMessage[];
	readonly sockets: WebSocket[];
	/** To the newest connection. */
	send(message: ControllerMessage | Record<string, unknown>): void;
	sendRaw(data: string | Buffer, options?: { binary: boolean }): void;
	/** Bodies of POST /v1/enrol. */
	readonly enrolments: unknown[];
	/** Bodies of POST /v1/enrolment-requests, and whether a certificate was shown. */
	readonly requests: { readonly body: Record<string, unknown>; readonly withCertificate: boolean }[];
	readonly authority: CertificateAuthority;
	/** Called for each message of an agent, after what the behaviour says. */
	onMessage: ((message: AgentMessage) => Promise<void>) | undefined;
	/** Default: a right answer. */
	answerEnrolment: ((body: { token: string; csr: string }) => Promise<{ status: number; body: unknown }>) | undefined;
};

export async function startFakeController(
	folder: string,
	address = "127.0.0.1",
	agentCertificateMs?: number,
): Promise<FakeController> {
	const authority = await openCertificateAuthority(join(folder, "ca"), agentCertificateMs);
	const { key, certificate } = await authority.issueServer([]);
	const token = formatToken(makeToken(authority.fingerprint));
	const server = createServer({
		key,
		cert: certificate,
		ca: authority.certificate,
		requestCert: true,
		rejectUnauthorized: false,
	});
	const behaviour: FakeControllerBehaviour = {
		welcomes: true,
		acknowledges: true,
		refusesWith: undefined,
		clockAheadMs: 0,
	};
	const messages: AgentMessage[] = [];
	const sockets: WebSocket[] = [];
	const enrolments: unknown[] = [];
	const requests: FakeController["requests"] = [];
	const webSockets = new WebSocketServer({ noServer: true, maxPayload: maxFrameBytes });
	const controller: FakeController = {
		url: "",
		token,
		behaviour,
		messages,
		sockets,
		enrolments,
		requests,
		authority,
		onMessage: undefined,
		answerEnrolment: undefined,
		send: (message) => sockets.at(-1)?.send(JSON.stringify(message)),
		sendRaw: (data, options = { binary: false }) => sockets.at(-1)?.send(data, options),
		async [Symbol.asyncDispose]() {
			for (const socket of sockets) socket.terminate();
			server.closeAllConnections();
			await new Promise((resolve) => server.close(resolve));
		},
	};
	server.on("upgrade", (request, socket, head) => {
		const client = request.socket as TLSSocket;
		if (!client.authorized || request.url !== "/v1/link") {
			const message = `the client certificate was refused: ${client.authorizationError}`;
			const body = JSON.stringify({ error: { code: "certificate-invalid", message } });
			socket.end(`HTTP/1.1 403 Refused\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
			return;
		}
		webSockets.handleUpgrade(request, socket, head, (webSocket) => {
			sockets.push(webSocket);
			webSocket.on("error", () => {});
			webSocket.on("message", (data) => {
				const message = JSON.parse(String(data)) as AgentMessage;
				messages.push(message);
				if (message.type === "hello") greet(webSocket);
				if (message.type === "report" && behaviour.acknowledges)
					webSocket.send(JSON.stringify({ type: "ack", sequence: message.sequence }));
				void controller.onMessage?.(message);
			});
		});
	});
	function greet(webSocket: WebSocket): void {
		const { refusesWith: code } = behaviour;
		if (code !== undefined) {
			webSocket.send(JSON.stringify({ type: "error", error: { code, message: `fake refusal: ${code}` } }));
			webSocket.close(1008, code);
		} else if (behaviour.welcomes) {
			const time = new Date(Date.now() + behaviour.clockAheadMs).toISOString();
			const ticket = `ticket-${randomUUID()}`;
			webSocket.send(JSON.stringify({ type: "welcome", protocol: 1, agentId: "agent-1", ticket, time }));
		}
	}
	server.on("request", (request, response) => {
		void (async () => {
			let text = "";
			for await (const chunk of request) text += String(chunk);
			if (request.url === "/v1/enrolment-requests") {
				const { subject } = (request.socket as TLSSocket).getPeerCertificate() ?? {};
				requests.push({ body: JSON.parse(text), withCertificate: subject !== undefined });
				response.writeHead(201, { "content-type": "application/json" }).end("{}");
				return;
			}
			const body = JSON.parse(text) as { token: string; csr: string };
			enrolments.push(body);
			const answer = await (controller.answerEnrolment?.(body) ?? enrolRightly(body));
			response.writeHead(answer.status, { "content-type": "application/json" }).end(JSON.stringify(answer.body));
		})();
	});
	async function enrolRightly(body: { csr: string }) {
		const issued = await authority.issueAgent("agent-1", body.csr);
		return { status: 201, body: { agentId: "agent-1", certificate: issued, ca: authority.certificate } };
	}
	server.listen(0, address);
	await once(server, "listening");
	return Object.assign(controller, { url: `https://${address}:${(server.address() as AddressInfo).port}` });
}
