import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { maxFrameBytes } from "../../contracts/controller-messages.ts";
import { type Enrolled, enrolFakeAgent, fakeMachine, makeKeyAndRequest } from "../fakes/fake-enrolment.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import { addFakeAgent, type ControllerRun, makeTestFolder, startController } from "../fixtures/controller-run.ts";
import { poll } from "../fixtures/poll.ts";

let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;
let enrolled: Enrolled;
/** Of the latest welcome. */
let ticket: string | undefined;

beforeAll(async () => {
	folder = await makeTestFolder();
	controller = await startController(join(folder.path, "state"));
	const { token } = await controller.client.createToken();
	enrolled = await enrolFakeAgent(controller.info.url, token);
});
afterAll(async () => {
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

const hello = JSON.stringify({ type: "hello", protocol: 1, version: "0", machine: fakeMachine });

/** Sends the frames and tells what came back and how it ended; "open" when it is still open after all was answered. */
async function talk(frames: readonly (string | Buffer)[], waitMs = 300) {
	const socket = new WebSocket(`${controller.info.url.replace("https", "wss")}/v1/link`, {
		...enrolled,
		perMessageDeflate: false,
	});
	const answers: { type: string; ticket?: string; error?: { code: string; details?: { field?: string } } }[] = [];
	socket.on("message", (data) => {
		answers.push(JSON.parse(data.toString()));
		ticket = answers.at(-1)?.ticket ?? ticket;
	});
	socket.on("error", () => undefined);
	const closed = new Promise<number>((resolve) => socket.on("close", resolve));
	await new Promise((resolve) => socket.on("open", resolve));
	for (const frame of frames) socket.send(String(frame) === frame ? withTicket(frame) : frame);
	const end = await Promise.race([closed, new Promise<"open">((resolve) => setTimeout(resolve, waitMs, "open"))]);
	socket.terminate();
	return { answers, end, code: answers.findLast(({ type }) => type === "error")?.error?.code };
}

function withTicket(frame: string): string {
	return frame.startsWith('{"type":"hello"') ? JSON.stringify({ ...JSON.parse(frame), ticket }) : frame;
}

describe("frames that are no good", () => {
	test("hello is answered with welcome (control)", async () => {
		const { answers, end } = await talk([hello]);
		expect(answers).toMatchObject([{ type: "welcome", protocol: 1, agentId: enrolled.agentId }]);
		expect(end).toBe("open");
	});

	test.each([
		["not JSON", "{"],
		["a number", "5"],
		["an array", "[]"],
		["without a type", "{}"],
		["with a length that can't be compared", JSON.stringify({ type: "thawed", jobId: { length: { toString: 1 } } })],
		["binary", Buffer.from(hello)],
		["a word before hello", JSON.stringify({ type: "thawed", jobId: "x" })],
	])("%s ends the connection with message-invalid", async (_, frame) => {
		const { code, end } = await talk([frame], 3_000);
		expect([code, end]).toEqual(["message-invalid", 1008]);
	});

	test("another protocol version ends it with version-unsupported", async () => {
		const { code, end } = await talk([hello.replace('"protocol":1', '"protocol":99')], 3_000);
		expect([code, end]).toEqual(["version-unsupported", 1008]);
	});

	test("a frame above the limit ends it with 1009, one just below is read", async () => {
		expect((await talk([hello, "x".repeat(maxFrameBytes + 1)], 3_000)).end).toBe(1009);
		const padded = JSON.stringify({ type: "thawed", jobId: "x", padding: "x".repeat(maxFrameBytes - 100) });
		expect(await talk([hello, padded])).toMatchObject({ end: "open", code: undefined });
	});

	test("after hello a message with a wrong field is answered by its name and ignored; many of them end it", async () => {
		const wrong = JSON.stringify({ type: "frozen", jobId: "x", leftMs: "soon", worth: "crash" });
		const once = await talk([hello, wrong]);
		expect(once.end).toBe("open");
		expect(once.answers.at(-1)?.error).toMatchObject({ code: "message-invalid", details: { field: "leftMs" } });
		expect((await talk([hello, ...Array(30).fill(wrong)], 3_000)).end).toBe(1008);
	});

	test("a second hello ends it", async () => {
		expect((await talk([hello, hello], 3_000)).end).toBe(1008);
	});
});

describe.concurrent("links", () => {
	test("who says no hello is sent away after 5 s", async () => {
		expect(await talk([], 8_000)).toMatchObject({ code: "deadline-passed", end: 1008 });
	});

	test("a second connection replaces the first when that is dead", async () => {
		await using first = await addFakeAgent(controller, {});
		first.hang();
		await first.connect();
		expect((await controller.client.readAgent(first.agentId)).connected).toBe(true);
	});

	test("a second connection while the first answers is refused as a copy, and the first goes on", async () => {
		await using first = await addFakeAgent(controller, {});
		const firstSocketEnd = first.closed;
		void first.connect().catch(() => undefined);
		await poll(() => first.heard.findLast(({ type }) => type === "error")).toMatchObject({
			error: { code: "identity-changed" },
		});
		expect(await Promise.race([firstSocketEnd, Promise.resolve("open")])).toBe("open");
		expect((await controller.client.readAgent(first.agentId)).connected).toBe(true);
	});

	test("a revoked agent hears why on the link that it has, and is refused before the next one", async () => {
		await using agent = await addFakeAgent(controller, {});
		await controller.client.revokeAgent(agent.agentId, "stolen");
		expect(await agent.closed).toEqual({ code: 1008, reason: "certificate-revoked" });
		expect(agent.heard.at(-1)).toMatchObject({ type: "error", error: { code: "certificate-revoked" } });
		await expect(agent.connect()).rejects.toThrow("403");
	});

	test("a certificate is renewed for a new key of the same agent; a request that proves no key is refused", async () => {
		await using agent = await addFakeAgent(controller, {});
		const { csr } = await makeKeyAndRequest("CN=operator,OU=operator");
		agent.sendRaw(JSON.stringify({ type: "renew", csr }));
		await agent.until("renewed");
		const renewed = agent.heard.find((one) => one.type === "renewed");
		const { subject } = new X509Certificate(renewed?.type === "renewed" ? renewed.certificate : "");
		expect(subject).toBe(`CN=${agent.agentId}\nOU=agent`);
		agent.sendRaw(JSON.stringify({ type: "renew", csr: "garbage" }));
		await agent.until("error");
		expect(agent.heard.at(-1)).toMatchObject({ error: { code: "certificate-invalid" } });
	});

	test("an agent that hangs is noticed within 5 s, one that answers pings is kept", async () => {
		await using hanging = await addFakeAgent(controller, {});
		await using living = await addFakeAgent(controller, {});
		hanging.hang();
		await new Promise((resolve) => setTimeout(resolve, 5_500));
		expect((await controller.client.readAgent(hanging.agentId)).connected).toBe(false);
		expect((await controller.client.readAgent(living.agentId)).connected).toBe(true);
	});

	test("a running job that the controller does not know is cancelled", async () => {
		const { answers } = await talk([hello.replace('"type":"hello"', '"type":"hello","runningJobId":"stray"')]);
		expect(answers.at(-1)).toEqual({ type: "cancel", jobId: "stray", code: "asker-lost" });
	});

	test("a report is acknowledged each time it comes, and one of another agent's job changes nothing", async () => {
		await using agent = await addFakeAgent(controller, {});
		const report = makeFakeReport({ jobId: "local-1", level: "crash", acceptLevel: "crash" }, "crash");
		agent.report(report);
		await agent.until("ack");
		agent.sendRaw(JSON.stringify({ type: "report", sequence: 1, report }));
		await poll(() => agent.heard.filter(({ type }) => type === "ack").length).toBe(2);
		expect(await controller.client.listJobs()).toEqual([]);
	});
});
