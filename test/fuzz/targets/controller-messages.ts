import assert from "node:assert/strict";
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { Agent } from "node:https";
import { createServer } from "node:net";
import { join } from "node:path";
import { duplexPair, Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import * as fc from "fast-check";
import { z } from "zod";
import { checkCertificate, makeKeyAndRequest } from "../../../agent/link/certificate-request.ts";
import { readAnswer } from "../../../agent/link/controller-answer.ts";
import { parseControllerMessage } from "../../../agent/link/controller-message.ts";
import { findEnrolment } from "../../../agent/link/enrolment-file.ts";
import { openProxyTunnel } from "../../../agent/link/proxy-tunnel.ts";
import { checkShape } from "../../../contracts/check-shape.ts";
import { credentialRequestSchema, revocationSchema } from "../../../contracts/controller-api.ts";
import {
	agentMessageSchema,
	diskMappingsSchema,
	enrolmentRequestSchema,
	enrolRequestSchema,
	snapshotRequestBodySchema,
	tokenRequestSchema,
} from "../../../contracts/controller-messages.ts";
import { StillpointError } from "../../../contracts/errors.ts";
import { orderSchema } from "../../../contracts/order.ts";
import { type AgentLink, type AgentWord, serveAgentLink } from "../../../controller/agent-link.ts";
import { plainText } from "../../../controller/audit.ts";
import { identifyCaller } from "../../../controller/caller.ts";
import { openCertificateAuthority } from "../../../controller/certificate-authority.ts";
import { callController } from "../../../controller/client-call.ts";
import { followEvents } from "../../../controller/client-events.ts";
import { checkMappings, mapDisks } from "../../../controller/disk-mapping.ts";
import { errorOnWire } from "../../../controller/error-on-wire.ts";
import { makeControllerEvents } from "../../../controller/events.ts";
import { parseFields } from "../../../controller/field-issue.ts";
import type { LinkSocket } from "../../../controller/link-socket.ts";
import { readOperatorFiles } from "../../../controller/operator-files.ts";
import { networkOf } from "../../../controller/rate-limits.ts";
import { readJsonBody } from "../../../controller/request-body.ts";
import { makeTicketSeal } from "../../../controller/ticket-seal.ts";
import { formatToken, makeToken, parseToken } from "../../../controller/tokens.ts";
import { type FuzzTarget, fuzzTarget, neverThrows } from "../fuzz-target.ts";
import { hostileText } from "../inputs/hostile-values.ts";
import { mutatedBytes } from "../inputs/mutated-bytes.ts";
import { mutatedJson, mutatedValue } from "../inputs/mutated-json.ts";
import { mutatedText } from "../inputs/mutated-text.ts";
import { agentMessages, apiBodies, controllerEvents, controllerMessages, errorShapes } from "../samples/documents.ts";

const bodySchemas = [
	credentialRequestSchema,
	revocationSchema,
	enrolRequestSchema,
	enrolmentRequestSchema,
	tokenRequestSchema,
	diskMappingsSchema,
	snapshotRequestBodySchema,
] as const;

const followLimitMs = 50;

export async function controllerMessageTargets(folder: string): Promise<FuzzTarget[]> {
	const json = (samples: readonly unknown[]) => mutatedJson(fc.constantFrom(...samples));
	const authority = await openCertificateAuthority(join(folder, "ca"));
	const made = await makeKeyAndRequest();
	const certificate = await authority.issueAgent("agent-1", made.csr);
	const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey.export({ type: "spki", format: "pem" });
	const own = { key: made.key, ca: authority.certificate, agentId: "agent-1" };
	const pems = [made.csr, certificate, authority.certificate, made.key, String(rsa)];
	const ders = [made.csr, certificate].map((pem) => Buffer.from(pem.replace(/-----[^-]+-----/g, ""), "base64"));
	const inPem = (kind: string) => (bytes: Buffer) =>
		`-----BEGIN ${kind}-----\n${bytes.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END ${kind}-----\n`;
	const seal = makeTicketSeal(Buffer.alloc(32, 1));
	const ticket = { counter: 12, random: "abcdefghijklmnopqrstuvwx" };
	const enrolmentFolder = join(folder, "state/enrolment");
	mkdirSync(enrolmentFolder, { recursive: true, mode: 0o700 });
	const enrolment = {
		version: 1,
		controllerUrl: "https://c:7443",
		certificate,
		enrolledAt: "2026-11-20T15:07:56Z",
		machine: {},
		...own,
	};
	for (const name of ["ca", "operator"]) {
		mkdirSync(join(folder, "controller", name), { recursive: true });
		for (const file of ["cert.pem", "key.pem"]) writeFileSync(join(folder, "controller", name, file), "x");
	}
	return [
		fuzzTarget({
			name: "agent-frames",
			parser: "controller/agent-link.ts serveAgentLink, contracts/controller-messages.ts agentMessageSchema",
			inputs: fc.array(fc.oneof(json(agentMessages), json(agentMessages), fc.constant(undefined)), {
				minLength: 1,
				maxLength: 6,
			}),
			run: async (frames) => {
				const { words, sent } = await speakToController([JSON.stringify(agentMessages[0]), ...frames]);
				for (const word of words)
					assert.ok(word.type === "unreadable-report" || checkShape(agentMessageSchema, word).success);
				for (const text of sent) assert.ok(Buffer.byteLength(text) < 300_000, `an answer of ${text.length} characters`);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "controller-frames",
			parser: "agent/link/controller-message.ts parseControllerMessage",
			inputs: json(controllerMessages),
			run: (text) => {
				const message = parseControllerMessage(text);
				// An order goes on as it came: the runner checks it, and answers with its id.
				// What JSON can't say (1e999 is read as Infinity) is said as null.
				const told = JSON.stringify(message);
				if (message.type !== "order") assert.deepEqual(parseControllerMessage(told), JSON.parse(told));
				else checkShape(orderSchema, message.order);
			},
		}),
		fuzzTarget({
			name: "controller-answer",
			parser: "agent/link/controller-answer.ts readAnswer",
			inputs: fc.tuple(
				json([{ error: errorShapes[0] }, errorShapes[1], { agentId: "a" }]),
				fc.constantFrom(200, 201, 204, 302, 400, 503, 0),
				hostileText,
			),
			run: async ([text, statusCode, date]) => {
				const response = Object.assign(Readable.from([Buffer.from(text)]), { statusCode, headers: { date } });
				await readAnswer(response as unknown as IncomingMessage, "https://controller");
			},
		}),
		fuzzTarget({
			name: "api-body",
			parser: "controller/request-body.ts readJsonBody, field-issue.ts parseFields; contracts/controller-api.ts",
			inputs: fc.tuple(
				json(apiBodies),
				fc.constantFrom("application/json", 'Application/JSON; charset="UTF-8"', "text/plain", undefined),
			),
			run: async ([text, type]) => {
				const headers = type === undefined ? {} : { "content-type": type };
				const request = Object.assign(Readable.from([Buffer.from(text)]), { headers });
				const body = await readJsonBody(request as unknown as IncomingMessage, 65_536);
				for (const schema of bodySchemas) attempt(() => parseFields(schema, body, "message-invalid"));
				const mappings = checkShape(diskMappingsSchema, body).data?.disks;
				if (mappings !== undefined) attempt(() => checkMappings(mappings));
				const named = mappings?.map(({ name }) => ({ name, sizeBytes: 1, fileSystemUuids: [] }));
				if (mappings !== undefined && named !== undefined) attempt(() => mapDisks(named, mappings));
			},
		}),
		fuzzTarget({
			name: "api-answer",
			parser: "controller/client-call.ts callController; client-events.ts followEvents",
			inputs: mutatedText(answers(), /([\r\n: ]+)/),
			run: async (text) => {
				const agent = agentThatHears(text);
				const at = { url: "https://controller:1", agent, path: "/v1/events" };
				await callController(at.url, agent, {
					method: "GET",
					path: at.path,
					answer: z.object({ agentId: z.string() }),
					limitMs: 2_000,
				}).catch(expected);
				// One that was there is waited for when it goes away, and nobody waits here.
				const enough = new AbortController();
				const timer = setTimeout(() => enough.abort(new StillpointError("cancelled", "enough")), followLimitMs);
				try {
					for await (const event of followEvents({ ...at, signal: enough.signal })) if (event.type === "end") break;
				} finally {
					clearTimeout(timer);
				}
			},
		}),
		fuzzTarget({
			name: "proxy-answer",
			parser: "agent/link/proxy-tunnel.ts openProxyTunnel",
			inputs: fc.tuple(
				mutatedText(
					[
						"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n",
						"HTTP/1.0 407 Who\r\nproxy-authenticate: Basic\r\n\r\nbody",
					],
					/([\r\n: ]+)/,
				),
				fc.oneof(
					fc.constantFrom("me:secret", "a%zz:b", "%:%", "me", "%e4:x"),
					fc.webAuthority({ withUserInfo: true }).map((one) => one.split("@")[0] ?? ""),
				),
			),
			run: ([answer, user]) => tunnelThrough(answer, user),
		}),
		fuzzTarget({
			name: "certificate-request",
			parser: "controller/certificate-authority.ts issueAgent (PKCS #10)",
			inputs: fc.oneof(mutatedBytes(ders).map(inPem("CERTIFICATE REQUEST")), mutatedText(pems)),
			run: async (csr) => {
				const issued = await authority.issueAgent("agent-9", csr);
				assert.match(new X509Certificate(issued).subject, /CN=agent-9/);
			},
		}),
		fuzzTarget({
			name: "certificate",
			parser: "agent/link/certificate-request.ts checkCertificate",
			inputs: fc.oneof(mutatedBytes(ders).map(inPem("CERTIFICATE")), mutatedText(pems)),
			run: (pem) => checkCertificate(pem, own),
		}),
		fuzzTarget({
			name: "enrolment-file",
			parser: "agent/link/enrolment-file.ts findEnrolment",
			inputs: json([enrolment]),
			run: (text) => {
				writeFileSync(join(enrolmentFolder, "enrolment.json"), text, { mode: 0o600 });
				findEnrolment(join(folder, "state"));
			},
		}),
		fuzzTarget({
			name: "operator-files",
			parser: "controller/operator-files.ts readOperatorFiles",
			inputs: json([{ url: "https://127.0.0.1:7443", pid: 5 }]),
			run: async (text) => {
				writeFileSync(join(folder, "controller/controller.json"), text);
				await readOperatorFiles(join(folder, "controller"));
			},
		}),
		fuzzTarget({
			name: "tokens-and-tickets",
			parser: "controller/tokens.ts parseToken; ticket-seal.ts; events.ts parseId; rate-limits.ts networkOf; caller.ts",
			inputs: fc.tuple(
				mutatedText(
					[
						formatToken(makeToken("ab".repeat(32))),
						seal.format("agent-1", ticket),
						"0123abcd-17",
						"fe80::1%eth0",
						"::ffff:10.0.0.1",
					],
					/([.:-])/,
				),
				hostileText,
			),
			run: ([text, name]) => {
				const token = parseToken(text);
				if (token !== undefined) assert.equal(formatToken(token), text);
				const shown = seal.parse("agent-1", text);
				if (shown !== undefined) assert.equal(seal.format("agent-1", shown), text);
				assert.equal(seal.parse("agent-2", text), undefined);
				makeControllerEvents().parseId(text);
				networkOf(text);
				// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
				assert.doesNotMatch(plainText(text), /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
				const subject = { CN: text, OU: name };
				identifyCaller({
					authorized: true,
					getPeerCertificate: () => ({ subject, valid_to: name, serialNumber: text }),
				} as never);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "error-shape",
			parser: "contracts/hold-protocol.ts errorShapeSchema; controller/error-on-wire.ts errorOnWire",
			inputs: mutatedValue(fc.constantFrom(...errorShapes)),
			run: (value) => {
				const message = attempt(() => parseControllerMessage(JSON.stringify({ type: "error", error: value })));
				if (typeof message !== "object" || message.type !== "error") return;
				const { code, message: what, details = {} } = message.error;
				const told = errorOnWire(new StillpointError(code, what, { details }));
				assert.ok(JSON.stringify(told).length < 200_000);
			},
			mayThrow: neverThrows,
		}),
	];
}

/** A controller's end of the link, with an agent that says these frames; until all of them were worked on. */
async function speakToController(
	frames: readonly (string | undefined)[],
): Promise<{ words: AgentWord[]; sent: string[] }> {
	const words: AgentWord[] = [];
	const sent: string[] = [];
	const state = {
		isOpen: true,
		on: undefined as Parameters<LinkSocket["listen"]>[0] | undefined,
		paused: 0,
		internal: 0,
	};
	const socket: LinkSocket = {
		get isOpen() {
			return state.isOpen;
		},
		bytesRead: 0,
		waitingBytes: 0,
		send: (text) => void sent.push(text),
		ping: () => undefined,
		close: () => {
			state.isOpen = false;
		},
		terminate: () => {
			state.isOpen = false;
		},
		pause: () => {
			state.paused += 1;
		},
		resume: () => {
			state.paused -= 1;
		},
		listen: (on) => {
			state.on = on;
		},
	};
	const log = {
		debug: () => undefined,
		info: () => undefined,
		warn: () => undefined,
		error: () => {
			state.internal += 1;
		},
	};
	const link: AgentLink = serveAgentLink({
		socket,
		agentId: "agent-1",
		log: log as never,
		onHello: () => Promise.resolve("1.abcdefghijklmnop"),
		onGreeted: () => undefined,
		onTicketKept: () => Promise.resolve(),
		onRenew: () => Promise.reject(new StillpointError("certificate-invalid", "none here")),
		onWord: (_, word) => Promise.resolve(void words.push(word)),
		onClosed: () => undefined,
	});
	for (const frame of frames) state.on?.frame(frame);
	while (state.paused > 0) await setImmediate();
	assert.equal(link.agentId, "agent-1");
	assert.equal(state.internal, 0, "a frame ended in an internal error");
	state.on?.closed();
	return { words, sent };
}

function answers(): string[] {
	const body = (text: string, type: string, status = "200 OK") =>
		`HTTP/1.1 ${status}\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
	const events = controllerEvents
		.map((event, id) => `id: 0123abcd-${id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
		.join(": still here\n\n");
	return [
		body('{"agentId":"a"}', "application/json"),
		body(JSON.stringify({ error: errorShapes[0] }), "application/json", "409 Conflict"),
		body(events, "text/event-stream"),
		`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${events.length.toString(16)}\r\n${events}\r\n0\r\n\r\n`,
		"HTTP/1.1 204 No Content\r\n\r\n",
	];
}

/** Whoever is asked answers so, and hangs up. */
function agentThatHears(text: string): Agent {
	const agent = new Agent({ keepAlive: false });
	Object.assign(agent, {
		createConnection: () => {
			const [near, far] = duplexPair();
			far.on("error", () => undefined);
			far.once("data", () => {
				far.write(text);
				far.end();
			});
			return Object.assign(near, {
				setNoDelay: () => near,
				setKeepAlive: () => near,
				setTimeout: () => near,
				ref: () => near,
				unref: () => near,
			});
		},
	});
	return agent;
}

async function tunnelThrough(answer: string, user: string): Promise<void> {
	const proxy = URL.parse("http://127.0.0.1");
	const asked = URL.parse(`http://${user}@127.0.0.1`);
	if (proxy === null || asked === null) return;
	const server = createServer((socket) => {
		socket.on("error", () => undefined);
		socket.once("data", () => socket.end(answer));
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	try {
		asked.port = String((server.address() as { port: number }).port);
		const socket = await openProxyTunnel(asked, "controller:7443", AbortSignal.timeout(3_000));
		socket.on("error", () => undefined).destroy();
	} finally {
		server.close();
	}
}

function attempt<T>(work: () => T): T | string {
	try {
		return work();
	} catch (error) {
		return expected(error);
	}
}

function expected(error: unknown): string {
	if (error instanceof StillpointError && error.code !== "internal") return error.code;
	throw error;
}
