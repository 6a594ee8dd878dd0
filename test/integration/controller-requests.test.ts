import { once } from "node:events";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ask } from "../fixtures/api-caller.ts";
import { type ControllerRun, makeTestFolder, startController } from "../fixtures/controller-run.ts";

let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;

beforeAll(async () => {
	folder = await makeTestFolder();
	controller = await startController(join(folder.path, "state"));
});
afterAll(async () => {
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

/** Bytes as they are, by the operator; the answer to its end. */
async function talk(text: string): Promise<string> {
	const { ca, cert, key } = controller.access;
	const socket = connect({ port: controller.info.port, host: "127.0.0.1", ca, cert, key });
	await once(socket, "secureConnect");
	const chunks: Buffer[] = [];
	socket.on("data", (chunk: Buffer) => chunks.push(chunk));
	socket.on("error", () => {});
	socket.write(text);
	await once(socket, "close");
	return Buffer.concat(chunks).toString();
}
const jsonOf = (answer: string) =>
	JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4)) as { error: { code: string } };

describe("requests that are none", () => {
	test("headers above 16 KiB, bytes that are no HTTP and a half header are told what is wrong", async () => {
		const large = await talk(`GET /v1/agents HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(20_000)}\r\n\r\n`);
		expect(large).toMatch(/^HTTP\/1\.1 431 /);
		expect(jsonOf(large).error.code).toBe("message-too-large");
		const garbage = await talk("\u0000\u0001 hello\r\n\r\n");
		expect(garbage).toMatch(/^HTTP\/1\.1 400 /);
		expect(jsonOf(garbage).error.code).toBe("message-invalid");
		expect((await ask(controller, "GET", "/v1/agents")).status).toBe(200);
	});

	test.each([
		[
			"a body of another type",
			{ raw: "x=1", headers: { "content-type": "application/x-www-form-urlencoded" } },
			"content-type",
		],
		[
			"another character set",
			{ raw: "{}", headers: { "content-type": "application/json; charset=latin1" } },
			"content-type",
		],
		["a compressed body", { raw: "{}", headers: { "content-encoding": "gzip" } }, "content-encoding"],
		["a list where fields belong", { raw: "[]", headers: { "content-type": "application/json" } }, "(whole)"],
		["a prototype in the body", { raw: '{"__proto__": {"validMs": 5000}}' }, "__proto__"],
	])("%s is refused", async (_, options, field) => {
		const { status, body } = await ask(controller, "POST", "/v1/tokens", options);
		expect([status, body.error.code, body.error.details.field]).toEqual([400, "message-invalid", field]);
	});

	test.each([
		["GET", "/v1/agents?x=1", "x"],
		["GET", "/v1/agents?__proto__=1", "__proto__"],
		["POST", "/v1/tokens?validMs=5000", "validMs"],
		["GET", "/v1/recovery-points?agentId=a&agentId=b", "agentId"],
		["GET", "/v1/jobs/x?waitMs=1e3", "waitMs"],
		["GET", "/v1/events?since=1", "since"],
	])("%s %s: unknown or doubled query words are named", async (method, path, field) => {
		const { status, body } = await ask(controller, method, path, method === "POST" ? { body: {} } : {});
		expect([status, body.error.code, body.error.details.field]).toEqual([400, "message-invalid", field]);
	});

	test("a body where none belongs is refused, and an empty object where nothing is needed is not", async () => {
		expect((await ask(controller, "GET", "/v1/agents", { body: {} })).code).toBe("message-invalid");
		expect((await ask(controller, "POST", "/v1/jobs/x/cancel", { body: {} })).code).toBe("job-unknown");
		expect((await ask(controller, "POST", "/v1/jobs/x/cancel")).code).toBe("job-unknown");
		expect((await ask(controller, "POST", "/v1/jobs/x/cancel", { body: { force: true } })).code).toBe(
			"message-invalid",
		);
	});

	test("HEAD answers as GET without the body, also for a refusal and for a stream", async () => {
		const head = await ask(controller, "HEAD", "/v1/agents");
		expect([head.status, head.text, head.headers["content-type"]]).toEqual([200, "", "application/json"]);
		expect((await ask(controller, "HEAD", "/v1/agents/none")).status).toBe(404);
		expect((await ask(controller, "HEAD", "/v1/agents", { as: {} })).status).toBe(403);
		const stream = await ask(controller, "HEAD", "/v1/events");
		expect([stream.status, stream.headers["content-type"]]).toEqual([200, "text/event-stream; charset=utf-8"]);
		const again = await talk("HEAD /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
		expect(again).toMatch(/^HTTP\/1\.1 200 /);
	});

	test.each(["//", "http://[", "*", "/%zz", "/v1/jobs/%zz", "https://elsewhere/v1/agents"])(
		"GET %s is answered",
		async (path) => {
			const answer = await talk(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
			expect(answer).toMatch(/^HTTP\/1\.1 (200|400|404) /);
			expect((await ask(controller, "GET", "/v1/agents")).status).toBe(200);
		},
	);

	test("what a page in an operator's browser sends is refused: its certificate would be shown there, too", async () => {
		for (const headers of [
			{ origin: "https://elsewhere.example" },
			{ origin: "null" },
			{ "sec-fetch-site": "cross-site" },
		])
			expect((await ask(controller, "POST", "/v1/tokens", { headers: headers as Record<string, string> })).code).toBe(
				"not-allowed",
			);
		expect((await ask(controller, "POST", "/v1/tokens", { headers: { "sec-fetch-site": "none" } })).status).toBe(201);
	});

	test("no host, one that is none, no path and another expectation are answered with a code", async () => {
		for (const head of [
			"GET /v1/agents HTTP/1.0",
			"GET /v1/agents HTTP/1.1\r\nHost: a b",
			"OPTIONS * HTTP/1.1\r\nHost: x",
		])
			expect(jsonOf(await talk(`${head}\r\nConnection: close\r\n\r\n`)).error.code).toBe("message-invalid");
		expect((await ask(controller, "POST", "/v1/tokens", { body: {}, headers: { expect: "more" } })).status).toBe(417);
	});

	test("an upgrade to anything but the link is refused with a code", async () => {
		const upgrade = (path: string) =>
			talk(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`);
		expect(jsonOf(await upgrade("/v1/agents")).error.code).toBe("not-found");
		expect(jsonOf(await upgrade("/v1/link")).error.code).toBe("not-allowed");
		expect(jsonOf(await upgrade("//")).error.code).toBe("not-found");
	});
});
