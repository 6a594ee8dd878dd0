import { connect as connectTcp, type Socket } from "node:net";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { enrolFakeAgent } from "../fakes/fake-enrolment.ts";
import { type Ask, ask } from "../fixtures/api-caller.ts";
import {
	addFakeAgent,
	type ControllerRun,
	makeImage,
	makeTestFolder,
	startController,
} from "../fixtures/controller-run.ts";
import { poll } from "../fixtures/poll.ts";

let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;

beforeAll(async () => {
	folder = await makeTestFolder();
	controller = await startController(join(folder.path, "state"), {
		connections: { unknownPerAddress: 8, readerMs: 1_000 },
	});
});
afterAll(async () => {
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

type Held = Disposable & { readonly socket: Socket; readonly isGone: boolean };

/** A connection whose other end reads nothing, never closes it, and says now and then what means nothing: a reset shows. */
function hold(text: string, { isTls = true, isQuiet = false, as = {} as NonNullable<Ask["as"]> } = {}): Held {
	const at = { port: controller.info.port, host: "127.0.0.1", allowHalfOpen: true };
	const socket = isTls ? connect({ ...at, ca: controller.access.ca, ...as }) : connectTcp(at);
	const state = { isGone: false };
	socket.on("error", () => {
		state.isGone = true;
	});
	socket.on("close", () => {
		state.isGone = true;
	});
	socket.once(isTls ? "secureConnect" : "connect", () => socket.write(text));
	const timer = setInterval(() => !isQuiet && !state.isGone && socket.write("\r\n"), 100);
	return {
		socket,
		get isGone() {
			return state.isGone;
		},
		[Symbol.dispose]() {
			clearInterval(timer);
			socket.destroy();
		},
	};
}

describe("a connection that was refused", () => {
	test("is closed, though the other end keeps it open: upgrade, no HTTP, no TLS", async () => {
		const upgrade = "GET /v1/agents HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
		using upgraded = hold(upgrade);
		using garbage = hold("\u0000\u0001\r\n\r\n");
		using plain = hold("GET / HTTP/1.1\r\n\r\n", { isTls: false });
		await poll(() => [upgraded.isGone, garbage.isGone, plain.isGone]).toEqual([true, true, true]);
	});
});

describe("who reads nothing of an answer", () => {
	test("is cut off, and one who only waits for an answer is not", async () => {
		const requests = "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(160);
		using _ = hold(requests, { as: controller.access, isQuiet: true });
		const image = await makeImage(join(folder.path, "a.img"), 4096, []);
		await using agent = await addFakeAgent(controller, { vda: image }, { silentOn: ["prepared"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		await agent.until("order");
		const { state } = await controller.client.readJob(jobId);
		const waiting = ask(controller, "GET", `/v1/jobs/${jobId}?waitMs=2500&state=${state}`);
		await poll(() => controller.lines.filter((line) => line.startsWith("slow reader cut")).length).toBe(1);
		expect((await waiting).status).toBe(200);
		await controller.client.cancelJob(jobId);
	});
});

describe("many connections without a certificate", () => {
	test("have a limit, and the oldest goes: agents, operators and machines that enrol come through", async () => {
		await using agent = await addFakeAgent(controller, {});
		const { token } = await controller.client.createToken();
		const held = Array.from({ length: 12 }, () => hold(""));
		await poll(() => held.filter(({ isGone }) => isGone).length).toBeGreaterThanOrEqual(4);
		expect(held.filter(({ isGone }) => !isGone).length).toBeGreaterThan(2);
		expect(controller.lines.filter((line) => line.startsWith("connection cut")).length).toBeGreaterThanOrEqual(4);
		expect((await ask(controller, "GET", "/v1/agents")).body.agents.at(-1).connected).toBe(true);
		await enrolFakeAgent(controller.info.url, token);
		await agent.disconnect();
		await agent.connect();
		for (const one of held) one[Symbol.dispose]();
	});
});
