/** A controller that was taken over: what it can't make the agent do. */
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { enrol } from "../../agent/link/enrolment.ts";
import { makeHttpsTransport } from "../../agent/link/https-transport.ts";
import type { AgentMessage } from "../../contracts/controller-messages.ts";
import { readMachineIdentity } from "../../platform/linux/machine-identity.ts";
import { type FakeController, startFakeController } from "../fakes/fake-controller.ts";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../fixtures/agent-process.ts";
import { makeTestFolder } from "../fixtures/controller-run.ts";
import { makeOrder } from "../fixtures/job-client.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");

describe.skipIf(missing)(`a controller that means ill${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let folders: AgentFoldersFixture;
	let controller: FakeController;
	let agent: AgentProcess;
	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		folders = stack.use(makeAgentFolders());
		const folder = stack.use(await makeTestFolder());
		controller = stack.use(await startFakeController(folder.path));
		await enrol({
			controllerUrl: controller.url,
			token: controller.token,
			stateDir: folders.flags.stateDir,
			machine: await readMachineIdentity(),
			transport: makeHttpsTransport(undefined),
			signal: AbortSignal.timeout(20_000),
		});
		folders.writeConfig({ holdLimitCapMs: 700, extensions: { installFrom: [folders.packageFolder] } });
		agent = stack.use(await startAgent(folders));
		await poll(() => sent("ticket-kept").length).toBe(1);
	});
	afterEach(() => stack.disposeAsync());

	function sent<T extends AgentMessage["type"]>(type: T) {
		return controller.messages.filter((one): one is Extract<AgentMessage, { type: T }> => one.type === type);
	}
	const rssKib = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${agent.pid}/status`, "utf8"))?.[1]);
	async function isAlive(): Promise<void> {
		await using channel = await agent.connect();
		await poll(async () => (await channel.call("agent.status", {})).link.connected, 30_000).toBe(true);
	}

	test("a hold is never longer than the local cap, whatever the order or a later command says", async () => {
		controller.send({ type: "order", order: makeOrder("good.long", { holdLimitMs: 900_000 }) });
		await poll(() => sent("prepared").length).toBe(1);
		expect(sent("prepared")[0]).toMatchObject({ holdLimitMs: 700 });
		const begunMs = performance.now();
		controller.send({ type: "freeze", jobId: "good.long" });
		for (let index = 0; index < 20; index += 1) controller.send({ type: "freeze", jobId: "good.long" });
		await poll(() => sent("report").length, 30_000).toBe(1);
		// The fake extension keeps no deadline of its own: the agent's ends it.
		expect(sent("report")[0]?.report).toMatchObject({ achieved: "none", error: { code: expect.any(String) } });
		expect(performance.now() - begunMs).toBeLessThan(20_000);
	});

	test("absurd orders and ones that name programs or file systems of their own are refused by their field", async () => {
		const base = makeOrder("bad");
		const bad: Record<string, unknown>[] = [
			{ holdLimitMs: 1e300 },
			{ holdLimitMs: -1 },
			{ prepareLimitMs: 2 ** 53 },
			{ startWithinMs: -5 },
			{ jobId: "../../etc/passwd" },
			{ jobId: "x".repeat(10_000) },
			{ disks: { include: Array(300).fill("vda") } },
			{ disks: { include: [{}] } },
			{ scriptsFolder: "/tmp" },
			{ fileSystems: { include: [], exclude: [] } },
			{ command: "/bin/sh" },
			{ extension: { folder: "/tmp", name: "x" } },
			{ level: "none" },
			{ __proto__: null, constructor: 1 },
		];
		for (const changes of bad) controller.send({ type: "order", order: { ...base, ...changes } });
		controller.send({ type: "order", order: null });
		await poll(() => sent("refused").length).toBe(bad.length + 1);
		expect(new Set(sent("refused").map(({ error }) => error.code))).toEqual(new Set(["order-invalid"]));
		expect(sent("accepted")).toEqual([]);
		expect(sent("hello")).toHaveLength(1);
	});

	test("a second welcome, a certificate nobody asked for, and acks of nothing change nothing", async () => {
		const foreign = await makeTestFolder();
		stack.use(foreign);
		const before = readFileSync(`${folders.flags.stateDir}/enrolment/enrolment.json`, "utf8");
		controller.send({ type: "renewed", certificate: "-----BEGIN CERTIFICATE-----" });
		for (const sequence of [1, 4711, Number.MAX_SAFE_INTEGER]) controller.send({ type: "ack", sequence });
		await poll(() => folders.readLog()).toMatch(/acknowledged what was not sent/);
		expect(sent("hello")).toHaveLength(1);
		const time = new Date().toISOString();
		controller.send({ type: "welcome", protocol: 1, agentId: "agent-1", ticket: "second".repeat(4), time });
		await poll(() => sent("hello").length).toBe(2);
		expect(folders.readLog()).toMatch(/a second welcome/);
		expect(sent("hello")[1]?.ticket).not.toMatch(/second/);
		expect(readFileSync(`${folders.flags.stateDir}/enrolment/enrolment.json`, "utf8")).toBe(before);
	});

	test("thousands of requests at a time: a few are answered, the rest refused, in bounded memory", async () => {
		const beforeKib = rssKib();
		for (let index = 0; index < 5_000; index += 1)
			controller.send({ type: "request", requestId: String(index), method: index % 2 === 0 ? "inventory" : "status" });
		await poll(() => sent("response").length, 40_000).toBe(5_000);
		const refused = sent("response").filter(({ error }) => error?.code === "rate-limited");
		expect(refused.length).toBeGreaterThan(4_000);
		expect(rssKib() - beforeKib).toBeLessThan(200_000);
		await isAlive();
	});

	test("a flood of orders waits for its turn in a short queue; the rest is refused", async () => {
		controller.send({ type: "order", order: makeOrder("good.first") });
		await poll(() => sent("prepared").length).toBe(1);
		for (let index = 0; index < 2_000; index += 1)
			controller.send({ type: "order", order: makeOrder(`good.${index}`, { startWithinMs: 60_000 }) });
		await poll(() => sent("refused").length, 30_000).toBe(2_000 - 16);
		expect(new Set(sent("refused").map(({ error }) => error.code))).toEqual(new Set(["job-running"]));
	});

	test("a flood of commands for other jobs ends the connection, each time later, and the log stays small", async () => {
		for (let index = 0; index < 3_000; index += 1) controller.send({ type: "freeze", jobId: `other-${index}` });
		await poll(() => folders.readLog()).toMatch(/too many messages of no use/);
		expect(folders.readLog().split("\n").length).toBeLessThan(400);
		await isAlive();
		expect(agent.child.exitCode).toBeNull();
	});

	test("one that asks and never reads is left, in bounded memory", async () => {
		const beforeKib = rssKib();
		const socket = controller.sockets.at(-1);
		socket?.pause();
		for (let index = 0; index < 20_000; index += 1)
			controller.send({ type: "request", requestId: String(index).padEnd(64, "x"), method: "status" });
		await poll(() => controller.sockets.length, 40_000).toBeGreaterThan(1);
		expect(rssKib() - beforeKib).toBeLessThan(200_000);
		await isAlive();
	});
});
