import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openJournal } from "../../agent/journal.ts";
import { findEnrolment, writeEnrolment } from "../../agent/link/enrolment-file.ts";
import { type FakeController, startFakeController } from "../fakes/fake-controller.ts";
import type { AgentProcess } from "../fixtures/agent-process.ts";
import { connectAsker, makeOrder } from "../fixtures/job-client.ts";
import { type LinkBench, linkOf, makeLinkBench, reloadLink } from "../fixtures/link-bench.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");

describe.skipIf(missing)(`the link to the controller${missing ? `: ${missing}` : ""}`, () => {
	describe("enrolment", () => {
		let bench: LinkBench;
		let controller: FakeController;
		beforeAll(async () => {
			bench = await makeLinkBench();
			({ controller } = bench);
		});
		afterAll(() => bench[Symbol.asyncDispose]());

		test("leaves one file of mode 0600 whose key never left the machine", async () => {
			expect(await bench.enrol()).toEqual({ agentId: "agent-1" });
			const path = join(bench.folders.flags.stateDir, "enrolment", "enrolment.json");
			expect(statSync(path).mode & 0o777).toBe(0o600);
			expect(statSync(join(bench.folders.flags.stateDir, "enrolment")).mode & 0o777).toBe(0o700);
			const key = bench.kept().key;
			expect(key).toMatch(/BEGIN PRIVATE KEY/);
			expect(JSON.stringify(controller.enrolments)).not.toContain("PRIVATE KEY");
			expect(controller.enrolments[0]).toMatchObject({ token: controller.token, machine: { platform: "linux-x64" } });
		});

		test("a server without the CA that the token names gets nothing", async () => {
			const seen = controller.enrolments.length;
			const token = controller.token.replace(/[0-9a-f]{64}$/, "0".repeat(64));
			await expect(bench.enrol({ token })).rejects.toMatchObject({ code: "certificate-invalid" });
			expect(controller.enrolments).toHaveLength(seen);
		});

		test("a server that shows the right CA but has no certificate of it for this host gets nothing", async () => {
			const own = mkdtempSync("/dev/shm/stillpoint-test-controller-");
			bench.stack.defer(() => rmSync(own, { recursive: true, force: true }));
			// The certificate names 127.0.0.1 and not this address.
			const other = bench.stack.use(await startFakeController(own, "127.0.0.2"));
			await expect(bench.enrol({ controllerUrl: other.url, token: other.token })).rejects.toMatchObject({
				code: "certificate-invalid",
			});
			expect(other.enrolments).toEqual([]);
		});

		test("a state folder that can't be used is said before the token is spent", async () => {
			const stateDir = join(bench.folders.flags.stateDir, "open");
			mkdirSync(stateDir);
			chmodSync(stateDir, 0o755);
			const seen = controller.enrolments.length;
			await expect(bench.enrol({ stateDir })).rejects.toMatchObject({ code: "state-unusable" });
			expect(controller.enrolments).toHaveLength(seen);
		});

		test("what is no token, no https URL, or nobody there, is named", async () => {
			await expect(bench.enrol({ token: "hunter2" })).rejects.toMatchObject({ code: "token-invalid" });
			await expect(bench.enrol({ controllerUrl: "http://127.0.0.1" })).rejects.toMatchObject({ code: "usage-invalid" });
			await expect(bench.enrol({ controllerUrl: "https://127.0.0.1:1" })).rejects.toMatchObject({
				code: "controller-unreachable",
			});
		});

		test("what the controller refuses comes with its own code; garbage and a foreign certificate are refused", async () => {
			rmSync(join(bench.folders.flags.stateDir, "enrolment"), { recursive: true, force: true });
			controller.answerEnrolment = async () => ({
				status: 403,
				body: { code: "token-invalid", message: "used before" },
			});
			await expect(bench.enrol()).rejects.toMatchObject({ code: "token-invalid", message: "used before" });
			controller.answerEnrolment = async () => ({ status: 500, body: "no" });
			await expect(bench.enrol()).rejects.toMatchObject({ code: "controller-unreachable" });
			controller.answerEnrolment = async () => ({ status: 201, body: { agentId: 7 } });
			await expect(bench.enrol()).rejects.toMatchObject({ code: "message-invalid" });
			const { loadX509 } = await import("../../platform/x509.ts");
			const x509 = await loadX509();
			const keys = (await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
				"sign",
				"verify",
			])) as never;
			const foreign = await x509.X509CertificateGenerator.createSelfSigned({
				name: "CN=foreign",
				keys,
				signingAlgorithm: { name: "ECDSA", hash: "SHA-256" } as never,
			});
			controller.answerEnrolment = async () => ({
				status: 201,
				body: { agentId: "a", certificate: foreign.toString("pem"), ca: foreign.toString("pem") },
			});
			await expect(bench.enrol()).rejects.toMatchObject({ code: "certificate-invalid" });
			expect(findEnrolment(bench.folders.flags.stateDir)).toBeUndefined();
		});

		test("a server that accepts and says nothing ends at the caller's limit", async () => {
			const silent = createServer();
			await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
			bench.stack.defer(() => void silent.close());
			const { port } = silent.address() as { port: number };
			await expect(
				bench.enrol({ controllerUrl: `https://127.0.0.1:${port}`, signal: AbortSignal.timeout(300) }),
			).rejects.toMatchObject({ code: "controller-unreachable" });
		});
	});

	/** On one agent, one after the other. */
	describe("one agent", () => {
		let bench: LinkBench;
		let controller: FakeController;
		let agent: AgentProcess;
		beforeAll(async () => {
			bench = await makeLinkBench();
			({ controller } = bench);
			agent = await bench.linked();
		});
		afterAll(() => bench[Symbol.asyncDispose]());
		const isConnected = async () => (await linkOf(agent)).connected;

		test("says hello, is welcomed, and answers status and inventory", async () => {
			controller.send({ type: "request", requestId: "1", method: "status" });
			controller.send({ type: "request", requestId: "2", method: "inventory" });
			await poll(() => bench.sent("response").length).toBe(2);
			const [status, inventory] = ["1", "2"].map((id) =>
				bench.sent("response").find(({ requestId }) => requestId === id),
			);
			expect(status?.result).toMatchObject({ pid: agent.pid, link: { connected: true, agentId: "agent-1" } });
			expect(inventory?.result).toMatchObject({ schemaVersion: 1 });
		});

		test("an order runs, and its report comes once and is taken out of the outbox when acknowledged", async () => {
			await bench.runJob("good.linked");
			await poll(() => bench.reportsOf("good.linked").length).toBe(1);
			expect(bench.sent("accepted")).toMatchObject([{ jobId: "good.linked", repeated: false }]);
			await poll(async () => (await linkOf(agent)).unsentReports).toBe(0);
			await poll(() => {
				using journal = openJournal(join(bench.folders.flags.stateDir, "journal.db"));
				return journal.readOutbox();
			}).toEqual([]);
		});

		test("an order that is not understood is refused with its id, on a link that stays", async () => {
			const hellos = bench.sent("hello").length;
			controller.send({ type: "order", order: { ...makeOrder("bad.1"), holdLimitMs: "long" } });
			controller.send({ type: "order", order: { jobId: "../x" } });
			await poll(() => bench.sent("refused").length).toBe(2);
			expect(bench.sent("refused")).toMatchObject([
				{ jobId: "bad.1", error: { code: "order-invalid" } },
				{ jobId: "invalid", error: { code: "order-invalid" } },
			]);
			expect(bench.sent("hello").length).toBe(hellos);
		});

		test("a job of the local channel is none of the controller's", async () => {
			await using one = await connectAsker(agent);
			await one.order("good.local");
			await one.until("prepared", "good.local", 30_000);
			controller.send({ type: "freeze", jobId: "good.local" });
			controller.send({ type: "request", requestId: "after-local", method: "status" });
			await poll(() => bench.sent("response").some(({ requestId }) => requestId === "after-local")).toBe(true);
			expect(one.events.some(({ phase }) => phase === "scripts")).toBe(false);
			await one.cancel("good.local");
			await one.until("report", "good.local");
			expect(bench.reportsOf("good.local")).toEqual([]);
		});

		test("a report that is too large for any channel is not waited for, is worth crash, and holds up no other", async () => {
			await bench.runJob("huge-report.linked");
			await poll(() => bench.reportsOf("huge-report.linked").length, 30_000).toBe(1);
			const told = bench.reportsOf("huge-report.linked")[0]?.report;
			expect(told).toMatchObject({ achieved: "crash", because: ["evidence-lost"] });
			await bench.runJob("good.after-huge");
			await poll(() => bench.reportsOf("good.after-huge").length, 30_000).toBe(1);
			// Control: a large one that fits comes whole.
			await bench.runJob("large-report.linked");
			await poll(() => bench.reportsOf("large-report.linked").length, 30_000).toBe(1);
			const { report } = bench.reportsOf("large-report.linked")[0] ?? {};
			expect(report).toMatchObject({ achieved: "file-system" });
			expect(report?.scripts[0]?.outputTail).toHaveLength(500_000);
		});

		for (const [what, act] of Object.entries<(controller: FakeController) => void>({
			"drops it": (one) => one.sockets.at(-1)?.terminate(),
			"sends what is no JSON": (one) => one.sendRaw("}{"),
			"sends a binary frame": (one) => one.sendRaw(Buffer.alloc(8), { binary: true }),
			"sends an unknown message": (one) => one.send({ type: "run", program: "/bin/sh" }),
			"sends a message with an extra field": (one) => one.send({ type: "ack", sequence: 1, program: "/bin/sh" }),
			"sends an oversized frame": (one) => one.sendRaw("x".repeat(4 * 1024 * 1024 + 1)),
			"speaks another protocol": (one) => one.send({ type: "welcome", protocol: 9, agentId: "agent-1" }),
		}))
			test(`a controller that ${what} is connected to again, and the agent goes on`, async () => {
				await poll(isConnected).toBe(true);
				const [hellos, socket] = [bench.sent("hello").length, controller.sockets.at(-1)];
				act(controller);
				await poll(() => socket?.readyState).toBe(3);
				// All but the first would have to wait longer and longer.
				if (what !== "drops it") await reloadLink(agent);
				await poll(() => bench.sent("hello").length).toBeGreaterThan(hellos);
				controller.send({ type: "request", requestId: what, method: "status" });
				await poll(() => bench.sent("response").some(({ requestId }) => requestId === what)).toBe(true);
				expect(agent.child.exitCode).toBeNull();
			});

		test("lost while frozen: undone at once, the report waits for the next connection", async () => {
			await poll(isConnected).toBe(true);
			await bench.prepare("good.cut");
			await bench.freeze("good.cut");
			const connections = controller.sockets.length;
			controller.sockets.at(-1)?.terminate();
			await poll(() => bench.reportsOf("good.cut").length, 30_000).toBe(1);
			expect(controller.sockets.length).toBeGreaterThan(connections);
			expect(bench.reportsOf("good.cut")[0]?.report.error?.code).toBe("asker-lost");
		});

		test("lost after done: the job goes on, and the next connection hears of it", async () => {
			const jobId = "slow-in-post.linked";
			await poll(isConnected).toBe(true);
			await bench.runJob(jobId);
			const connections = controller.sockets.length;
			controller.sockets.at(-1)?.terminate();
			await poll(() => bench.reportsOf(jobId).length, 30_000).toBe(1);
			expect(controller.sockets.length).toBeGreaterThan(connections);
			expect(bench.reportsOf(jobId)[0]?.report.achieved).toBe("file-system");
		});

		test("no secret stands in the log", () => {
			expect(bench.folders.readLog()).toMatch(/linked/);
			expect(bench.folders.readLog()).not.toContain(bench.kept().key.split("\n")[1]);
			expect(bench.folders.readLog()).not.toContain(controller.token);
		});

		test("never acknowledged: the report is sent again by every connection and every life, in order", async () => {
			await poll(isConnected).toBe(true);
			controller.behaviour.acknowledges = false;
			await bench.runJob("good.a");
			await poll(() => bench.reportsOf("good.a").length).toBe(1);
			await bench.runJob("good.b");
			controller.send({ type: "ack", sequence: 4711 });
			await poll(async () => (await linkOf(agent)).unsentReports).toBe(2);
			controller.sockets.at(-1)?.terminate();
			await reloadLink(agent);
			await poll(() => bench.reportsOf("good.a").length).toBe(2);
			expect(bench.reportsOf("good.b").length).toBe(0);
			agent.child.kill("SIGKILL");
			await agent.exited;
			controller.behaviour.acknowledges = true;
			agent = await bench.start();
			await poll(() => bench.reportsOf("good.b").length).toBe(1);
			const [first = 0] = bench.reportsOf("good.a").map(({ sequence }) => sequence);
			expect(bench.reportsOf("good.a").map(({ sequence }) => sequence)).toEqual([first, first, first]);
			expect(bench.reportsOf("good.b").map(({ sequence }) => sequence)).toEqual([first + 1]);
		});

		test("the agent is killed during the job: its next life sends interrupted", async () => {
			await poll(isConnected).toBe(true);
			await bench.prepare("good.interrupted");
			agent.child.kill("SIGKILL");
			await agent.exited;
			agent = await bench.start();
			await poll(() => bench.reportsOf("good.interrupted").length).toBe(1);
			expect(bench.reportsOf("good.interrupted")[0]?.report).toMatchObject({
				error: { code: "interrupted" },
				because: ["evidence-lost"],
				achieved: "none",
			});
		});

		test("a stop during the job tells the controller before it ends", async () => {
			await poll(isConnected).toBe(true);
			await bench.prepare("good.stopped");
			agent.child.kill("SIGTERM");
			await agent.exited;
			expect(bench.reportsOf("good.stopped")).toMatchObject([{ report: { error: { code: "stopping" } } }]);
		});
	});

	/** Each waits for a limit of its own agent. */
	describe.concurrent("side by side", () => {
		test("an agent that is enrolled later connects on link.reload", async () => {
			await using bench = await makeLinkBench();
			const agent = await bench.start();
			expect(await linkOf(agent)).toMatchObject({ enrolled: false, connected: false });
			await bench.enrol();
			await reloadLink(agent);
			await poll(() => linkOf(agent)).toMatchObject({ enrolled: true, connected: true });
		});

		test("a controller that stops without a word is noticed, and its job is undone", async () => {
			await using bench = await makeLinkBench();
			await bench.linked();
			await bench.prepare("good.silent");
			bench.controller.sockets.at(-1)?.pause();
			// Without pongs: noticed within 5 s, then a new connection carries the report.
			await poll(() => bench.reportsOf("good.silent").length, 30_000).toBe(1);
			expect(bench.reportsOf("good.silent")[0]?.report).toMatchObject({
				error: { code: "asker-lost" },
				achieved: "none",
			});
		});

		test("one that never welcomes is left and tried again; the agent ends while it waits", async () => {
			await using bench = await makeLinkBench();
			bench.controller.behaviour.welcomes = false;
			await bench.enrol();
			const agent = await bench.start();
			await poll(() => bench.sent("hello").length, 40_000).toBeGreaterThan(1);
			agent.child.kill("SIGTERM");
			expect((await agent.exited).exitCode).toBe(0);
		});

		test("a refusal of the former enrolment that comes after a new one was made does not touch that", async () => {
			await using bench = await makeLinkBench();
			const { controller } = bench;
			controller.behaviour.welcomes = false;
			await bench.enrol();
			const former = bench.kept();
			controller.onMessage = async ({ type }) => {
				if (type !== "hello" || controller.behaviour.welcomes) return;
				controller.behaviour.welcomes = true;
				controller.answerEnrolment = async ({ csr }) => {
					const certificate = await controller.authority.issueAgent("agent-2", csr);
					return { status: 201, body: { agentId: "agent-2", certificate, ca: controller.authority.certificate } };
				};
				await bench.enrol();
				controller.send({ type: "error", error: { code: "identity-changed", message: "agent-1 is a copy" } });
				controller.sockets.at(-1)?.close(1008, "identity-changed");
			};
			const agent = await bench.start();
			await poll(async () => (await linkOf(agent)).error?.code, 30_000).toBe("identity-changed");
			await poll(() => controller.requests.length).toBe(1);
			expect(bench.kept()).toMatchObject({ agentId: "agent-2" });
			expect(bench.kept().identityChanged).toBeUndefined();
			expect(bench.kept().certificate).not.toBe(former.certificate);
		});

		test("an enrolment of another machine, or one that others may read, is not used", async () => {
			await using bench = await makeLinkBench();
			const { stateDir } = bench.folders.flags;
			await bench.enrol();
			const enrolment = bench.kept();
			await writeEnrolment(stateDir, { ...enrolment, machine: { machineId: "0".repeat(32) } });
			const agent = await bench.start();
			await poll(() => linkOf(agent)).toMatchObject({ enrolled: false });
			await poll(() => bench.folders.readLog()).toMatch(/copy of the one that was enrolled/);
			await writeEnrolment(stateDir, enrolment);
			chmodSync(join(stateDir, "enrolment", "enrolment.json"), 0o644);
			await reloadLink(agent);
			await poll(() => bench.folders.readLog()).toMatch(/mode 0600/);
			expect(bench.controller.messages).toEqual([]);
		});
	});
});
