/** A controller that was taken over: what it can't make the agent do. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FakeController } from "../fakes/fake-controller.ts";
import type { AgentProcess } from "../fixtures/agent-process.ts";
import { makeOrder } from "../fixtures/job-client.ts";
import { type LinkBench, linkOf, makeLinkBench, reloadLink } from "../fixtures/link-bench.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");

describe.skipIf(missing)(`a controller that means ill${missing ? `: ${missing}` : ""}`, () => {
	let bench: LinkBench;
	let controller: FakeController;
	let agent: AgentProcess;
	/** One agent bears all of it. */
	beforeAll(async () => {
		bench = await makeLinkBench();
		({ controller } = bench);
		bench.folders.writeConfig({ holdLimitCapMs: 700, extensions: { installFrom: [bench.folders.packageFolder] } });
		agent = await bench.linked();
	});
	afterAll(() => bench[Symbol.asyncDispose]());

	const rssKib = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${agent.pid}/status`, "utf8"))?.[1]);
	const isAlive = () => poll(async () => (await linkOf(agent)).connected, 30_000).toBe(true);

	test("a hold is never longer than the local cap, whatever the order or a later command says", async () => {
		controller.send({ type: "order", order: makeOrder("good.long", { holdLimitMs: 900_000 }) });
		await poll(() => bench.sent("prepared").length).toBe(1);
		expect(bench.sent("prepared")[0]).toMatchObject({ holdLimitMs: 700 });
		const begunMs = performance.now();
		controller.send({ type: "freeze", jobId: "good.long" });
		for (let index = 0; index < 20; index += 1) controller.send({ type: "freeze", jobId: "good.long" });
		await poll(() => bench.sent("report").length, 30_000).toBe(1);
		// The fake extension keeps no deadline of its own: the agent's ends it.
		expect(bench.sent("report")[0]?.report).toMatchObject({ achieved: "none", error: { code: expect.any(String) } });
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
		const [accepted, hellos] = [bench.sent("accepted").length, bench.sent("hello").length];
		for (const changes of bad) controller.send({ type: "order", order: { ...base, ...changes } });
		controller.send({ type: "order", order: null });
		await poll(() => bench.sent("refused").length, 30_000).toBe(bad.length + 1);
		expect(new Set(bench.sent("refused").map(({ error }) => error.code))).toEqual(new Set(["order-invalid"]));
		expect(bench.sent("accepted")).toHaveLength(accepted);
		expect(bench.sent("hello")).toHaveLength(hellos);
	});

	test("a second welcome, a certificate nobody asked for, and acks of nothing change nothing", async () => {
		const hellos = bench.sent("hello").length;
		const before = readFileSync(`${bench.folders.flags.stateDir}/enrolment/enrolment.json`, "utf8");
		controller.send({ type: "renewed", certificate: "-----BEGIN CERTIFICATE-----" });
		for (const sequence of [1, 4711, Number.MAX_SAFE_INTEGER]) controller.send({ type: "ack", sequence });
		await poll(() => bench.folders.readLog()).toMatch(/acknowledged what was not sent/);
		expect(bench.sent("hello")).toHaveLength(hellos);
		const time = new Date().toISOString();
		controller.send({ type: "welcome", protocol: 1, agentId: "agent-1", ticket: "second".repeat(4), time });
		await poll(() => bench.folders.readLog()).toMatch(/a second welcome/);
		await reloadLink(agent);
		await poll(() => bench.sent("hello").length).toBeGreaterThan(hellos);
		expect(bench.sent("hello").at(-1)?.ticket).not.toMatch(/second/);
		expect(readFileSync(`${bench.folders.flags.stateDir}/enrolment/enrolment.json`, "utf8")).toBe(before);
	});

	test("thousands of requests at a time: a few are answered, the rest refused, in bounded memory", async () => {
		await isAlive();
		const beforeKib = rssKib();
		for (let index = 0; index < 2_000; index += 1)
			controller.send({ type: "request", requestId: String(index), method: index % 2 === 0 ? "inventory" : "status" });
		await poll(() => bench.sent("response").length, 50_000).toBe(2_000);
		const refused = bench.sent("response").filter(({ error }) => error?.code === "rate-limited");
		expect(refused.length).toBeGreaterThan(1_500);
		expect(rssKib() - beforeKib).toBeLessThan(200_000);
		await isAlive();
	});

	test("a flood of commands for other jobs ends the connection, each time later, and the log stays small", async () => {
		await isAlive();
		const lines = () => bench.folders.readLog().split("\n").length;
		const before = lines();
		for (let index = 0; index < 3_000; index += 1) controller.send({ type: "freeze", jobId: `other-${index}` });
		await poll(() => bench.folders.readLog()).toMatch(/too many messages of no use/);
		expect(lines() - before).toBeLessThan(400);
		await reloadLink(agent);
		await isAlive();
		expect(agent.child.exitCode).toBeNull();
	});

	test("one that asks and never reads is left, in bounded memory", async () => {
		await isAlive();
		const beforeKib = rssKib();
		const socket = controller.sockets.at(-1);
		socket?.pause();
		for (let index = 0; index < 20_000; index += 1)
			controller.send({ type: "request", requestId: String(index).padEnd(64, "x"), method: "status" });
		await poll(() => controller.sockets.at(-1) !== socket, 40_000).toBe(true);
		expect(rssKib() - beforeKib).toBeLessThan(200_000);
		await isAlive();
	});

	test("a flood of orders waits for its turn in a short queue; the rest is refused", async () => {
		await isAlive();
		await bench.prepare("good.first");
		const before = bench.sent("refused").length;
		const refused = () => bench.sent("refused").slice(before);
		for (let index = 0; index < 2_000; index += 1)
			controller.send({ type: "order", order: makeOrder(`good.${index}`, { startWithinMs: 60_000 }) });
		await poll(() => refused().length, 30_000).toBe(2_000 - 16);
		expect(new Set(refused().map(({ error }) => error.code))).toEqual(new Set(["job-running"]));
	});
});
