import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openJournal } from "../../agent/journal.ts";
import { enrol } from "../../agent/link/enrolment.ts";
import { findEnrolment, writeEnrolment } from "../../agent/link/enrolment-file.ts";
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
import { connectAsker, makeOrder } from "../fixtures/job-client.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");

describe.skipIf(missing)(`the link to the controller${missing ? `: ${missing}` : ""}`, () => {
	let folders: AgentFoldersFixture;
	let controller: FakeController;
	let stack: AsyncDisposableStack;

	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		folders = stack.use(makeAgentFolders());
		const own = mkdtempSync("/dev/shm/stillpoint-test-controller-");
		stack.defer(() => rmSync(own, { recursive: true, force: true }));
		controller = stack.use(await startFakeController(own));
	});
	afterEach(() => stack.disposeAsync());

	async function enrolHere(changes: Partial<Parameters<typeof enrol>[0]> = {}) {
		return await enrol({
			controllerUrl: controller.url,
			token: controller.token,
			stateDir: folders.flags.stateDir,
			machine: await readMachineIdentity(),
			transport: makeHttpsTransport(undefined),
			signal: AbortSignal.timeout(20_000),
			...changes,
		});
	}
	async function linkedAgent(): Promise<AgentProcess> {
		await enrolHere();
		const agent = stack.use(await startAgent(folders));
		await poll(() => sent("hello").length).toBeGreaterThan(0);
		return agent;
	}
	function sent<T extends AgentMessage["type"]>(type: T) {
		return controller.messages.filter((one): one is Extract<AgentMessage, { type: T }> => one.type === type);
	}
	const heard = (type: AgentMessage["type"], jobId: string) =>
		controller.messages.some((one) => one.type === type && "jobId" in one && one.jobId === jobId);
	async function runJob(jobId: string) {
		controller.send({ type: "order", order: makeOrder(jobId) });
		await poll(() => heard("prepared", jobId)).toBe(true);
		controller.send({ type: "freeze", jobId });
		await poll(() => heard("frozen", jobId)).toBe(true);
		controller.send({ type: "done", jobId, disks: [{ name: "vda", ok: true }] });
		await poll(() => heard("thawed", jobId)).toBe(true);
	}
	const reportsOf = (jobId: string) => sent("report").filter(({ report }) => report.jobId === jobId);

	describe("enrolment", () => {
		test("leaves one file of mode 0600 whose key never left the machine", async () => {
			expect(await enrolHere()).toEqual({ agentId: "agent-1" });
			const path = join(folders.flags.stateDir, "enrolment", "enrolment.json");
			expect(statSync(path).mode & 0o777).toBe(0o600);
			expect(statSync(join(folders.flags.stateDir, "enrolment")).mode & 0o777).toBe(0o700);
			const key = findEnrolment(folders.flags.stateDir)?.key ?? "";
			expect(key).toMatch(/BEGIN PRIVATE KEY/);
			expect(JSON.stringify(controller.enrolments)).not.toContain("PRIVATE KEY");
			expect(controller.enrolments[0]).toMatchObject({ token: controller.token, machine: { platform: "linux-x64" } });
		});

		test("a server without the CA that the token names gets nothing", async () => {
			const token = controller.token.replace(/[0-9a-f]{64}$/, "0".repeat(64));
			await expect(enrolHere({ token })).rejects.toMatchObject({ code: "certificate-invalid" });
			expect(controller.enrolments).toEqual([]);
		});

		test("a server that shows the right CA but has no certificate of it for this host gets nothing", async () => {
			const own = mkdtempSync("/dev/shm/stillpoint-test-controller-");
			stack.defer(() => rmSync(own, { recursive: true, force: true }));
			// The certificate names 127.0.0.1 and not this address.
			const other = stack.use(await startFakeController(own, "127.0.0.2"));
			await expect(enrolHere({ controllerUrl: other.url, token: other.token })).rejects.toMatchObject({
				code: "certificate-invalid",
			});
			expect(other.enrolments).toEqual([]);
		});

		test("what is no token, no https URL, or nobody there, is named", async () => {
			await expect(enrolHere({ token: "hunter2" })).rejects.toMatchObject({ code: "token-invalid" });
			await expect(enrolHere({ controllerUrl: "http://127.0.0.1" })).rejects.toMatchObject({ code: "usage-invalid" });
			await expect(enrolHere({ controllerUrl: "https://127.0.0.1:1" })).rejects.toMatchObject({
				code: "controller-unreachable",
			});
		});

		test("what the controller refuses comes with its own code; garbage and a foreign certificate are refused", async () => {
			controller.answerEnrolment = async () => ({
				status: 403,
				body: { code: "token-invalid", message: "used before" },
			});
			await expect(enrolHere()).rejects.toMatchObject({ code: "token-invalid", message: "used before" });
			controller.answerEnrolment = async () => ({ status: 500, body: "no" });
			await expect(enrolHere()).rejects.toMatchObject({ code: "controller-unreachable" });
			controller.answerEnrolment = async () => ({ status: 201, body: { agentId: 7 } });
			await expect(enrolHere()).rejects.toMatchObject({ code: "message-invalid" });
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
			await expect(enrolHere()).rejects.toMatchObject({ code: "certificate-invalid" });
			expect(findEnrolment(folders.flags.stateDir)).toBeUndefined();
		});

		test("a server that accepts and says nothing ends at the caller's limit", async () => {
			const silent = createServer();
			await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
			stack.defer(() => void silent.close());
			const { port } = silent.address() as { port: number };
			await expect(
				enrolHere({ controllerUrl: `https://127.0.0.1:${port}`, signal: AbortSignal.timeout(300) }),
			).rejects.toMatchObject({ code: "controller-unreachable" });
		});
	});

	describe("connection", () => {
		test("says hello, is welcomed, and answers status and inventory", async () => {
			const agent = await linkedAgent();
			controller.send({ type: "request", requestId: "1", method: "status" });
			controller.send({ type: "request", requestId: "2", method: "inventory" });
			await poll(() => sent("response").length).toBe(2);
			const [status, inventory] = ["1", "2"].map((id) => sent("response").find(({ requestId }) => requestId === id));
			expect(status?.result).toMatchObject({ pid: agent.pid, link: { connected: true, agentId: "agent-1" } });
			expect(inventory?.result).toMatchObject({ schemaVersion: 1 });
		});

		test("an agent that is enrolled later connects on link.reload", async () => {
			const agent = stack.use(await startAgent(folders));
			const one = stack.use(await connectAsker(agent));
			expect((await one.client.call("agent.status", {})).link).toMatchObject({ enrolled: false, connected: false });
			await enrolHere();
			await one.client.call("link.reload", {});
			await poll(async () => (await one.client.call("agent.status", {})).link).toMatchObject({
				enrolled: true,
				connected: true,
			});
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
				const agent = await linkedAgent();
				act(controller);
				await poll(() => sent("hello").length).toBeGreaterThan(1);
				controller.send({ type: "request", requestId: "after", method: "status" });
				await poll(() => sent("response").some(({ requestId }) => requestId === "after")).toBe(true);
				expect(agent.child.exitCode).toBeNull();
			});

		test("a controller that stops without a word is noticed, and its job is undone", async () => {
			await linkedAgent();
			controller.send({ type: "order", order: makeOrder("good.silent") });
			await poll(() => heard("prepared", "good.silent")).toBe(true);
			controller.sockets.at(-1)?.pause();
			// Without pongs: noticed within 5 s, then a new connection carries the report.
			await poll(() => reportsOf("good.silent").length).toBe(1);
			expect(reportsOf("good.silent")[0]?.report).toMatchObject({ error: { code: "asker-lost" }, achieved: "none" });
		});

		test("one that never welcomes is left and tried again; the agent ends while it waits", async () => {
			controller.behaviour.welcomes = false;
			const agent = await linkedAgent();
			await poll(() => sent("hello").length, 30_000).toBeGreaterThan(1);
			agent.child.kill("SIGTERM");
			expect((await agent.exited).exitCode).toBe(0);
		}, 60_000);

		test("an enrolment of another machine, or one that others may read, is not used", async () => {
			await enrolHere();
			const enrolment = findEnrolment(folders.flags.stateDir);
			if (enrolment === undefined) throw new Error("not enrolled");
			await writeEnrolment(folders.flags.stateDir, { ...enrolment, machine: { machineId: "0".repeat(32) } });
			const agent = stack.use(await startAgent(folders));
			const one = stack.use(await connectAsker(agent));
			expect((await one.client.call("agent.status", {})).link).toMatchObject({ enrolled: false });
			await poll(() => folders.readLog()).toMatch(/copy of the one that was enrolled/);
			await writeEnrolment(folders.flags.stateDir, enrolment);
			chmodSync(join(folders.flags.stateDir, "enrolment", "enrolment.json"), 0o644);
			await one.client.call("link.reload", {});
			await poll(() => folders.readLog()).toMatch(/mode 0600/);
			expect(controller.messages).toEqual([]);
		});
	});

	describe("jobs", () => {
		test("an order runs, and its report comes once and is taken out of the outbox when acknowledged", async () => {
			const agent = await linkedAgent();
			await runJob("good.linked");
			await poll(() => reportsOf("good.linked").length).toBe(1);
			expect(sent("accepted")).toMatchObject([{ jobId: "good.linked", repeated: false }]);
			const one = stack.use(await connectAsker(agent));
			await poll(async () => (await one.client.call("agent.status", {})).link.unsentReports).toBe(0);
			agent.child.kill("SIGTERM");
			await agent.exited;
			using journal = openJournal(join(folders.flags.stateDir, "journal.db"));
			expect(journal.readOutbox()).toEqual([]);
		});

		test("an order that is not understood is refused with its id, on a link that stays", async () => {
			await linkedAgent();
			controller.send({ type: "order", order: { ...makeOrder("bad.1"), holdLimitMs: "long" } });
			controller.send({ type: "order", order: { jobId: "../x" } });
			await poll(() => sent("refused").length).toBe(2);
			expect(sent("refused")).toMatchObject([
				{ jobId: "bad.1", error: { code: "order-invalid" } },
				{ jobId: "invalid", error: { code: "order-invalid" } },
			]);
			expect(sent("hello").length).toBe(1);
		});

		test("lost while frozen: undone at once, the report waits for the next connection", async () => {
			await linkedAgent();
			controller.send({ type: "order", order: makeOrder("good.cut") });
			await poll(() => heard("prepared", "good.cut")).toBe(true);
			controller.send({ type: "freeze", jobId: "good.cut" });
			await poll(() => heard("frozen", "good.cut")).toBe(true);
			controller.sockets.at(-1)?.terminate();
			await poll(() => reportsOf("good.cut").length).toBe(1);
			expect(reportsOf("good.cut")[0]?.report.error?.code).toBe("asker-lost");
		});

		test("lost after done: the job goes on, and the next connection hears of it", async () => {
			await linkedAgent();
			const jobId = "slow-in-post.linked";
			controller.send({ type: "order", order: makeOrder(jobId) });
			await poll(() => heard("prepared", jobId)).toBe(true);
			controller.send({ type: "freeze", jobId });
			await poll(() => heard("frozen", jobId)).toBe(true);
			controller.send({ type: "done", jobId, disks: [{ name: "vda", ok: true }] });
			await poll(() => heard("thawed", jobId)).toBe(true);
			controller.sockets.at(-1)?.terminate();
			await poll(() => reportsOf(jobId).length).toBe(1);
			expect(reportsOf(jobId)[0]?.report.achieved).toBe("file-system");
		});

		test("never acknowledged: the report is sent again by every connection and every life, in order", async () => {
			controller.behaviour.acknowledges = false;
			const first = await linkedAgent();
			await runJob("good.a");
			await poll(() => reportsOf("good.a").length).toBe(1);
			await runJob("good.b");
			controller.send({ type: "ack", sequence: 4711 });
			controller.sockets.at(-1)?.terminate();
			await poll(() => reportsOf("good.a").length).toBe(2);
			expect(reportsOf("good.b").length).toBe(0);
			first.child.kill("SIGKILL");
			await first.exited;
			controller.behaviour.acknowledges = true;
			stack.use(await startAgent(folders));
			await poll(() => reportsOf("good.b").length).toBe(1);
			expect(reportsOf("good.a").map(({ sequence }) => sequence)).toEqual([1, 1, 1]);
			expect(reportsOf("good.b").map(({ sequence }) => sequence)).toEqual([2]);
		});

		test("the agent is killed during the job: its next life sends interrupted", async () => {
			const first = await linkedAgent();
			controller.send({ type: "order", order: makeOrder("good.interrupted") });
			await poll(() => heard("prepared", "good.interrupted")).toBe(true);
			first.child.kill("SIGKILL");
			await first.exited;
			stack.use(await startAgent(folders));
			await poll(() => reportsOf("good.interrupted").length).toBe(1);
			expect(reportsOf("good.interrupted")[0]?.report).toMatchObject({
				error: { code: "interrupted" },
				because: ["evidence-lost"],
				achieved: "none",
			});
		});

		test("a stop during the job tells the controller before it ends", async () => {
			const agent = await linkedAgent();
			controller.send({ type: "order", order: makeOrder("good.stopped") });
			await poll(() => heard("prepared", "good.stopped")).toBe(true);
			agent.child.kill("SIGTERM");
			await agent.exited;
			expect(reportsOf("good.stopped")).toMatchObject([{ report: { error: { code: "stopping" } } }]);
		});

		test("a job of the local channel is none of the controller's", async () => {
			const agent = await linkedAgent();
			const one = stack.use(await connectAsker(agent));
			await one.order("good.local");
			await one.until("prepared", "good.local");
			controller.send({ type: "freeze", jobId: "good.local" });
			controller.send({ type: "request", requestId: "after", method: "status" });
			await poll(() => sent("response").length).toBe(1);
			expect(one.events.some(({ phase }) => phase === "scripts")).toBe(false);
			await one.cancel("good.local");
			await one.until("report", "good.local");
			expect(sent("report")).toEqual([]);
		});
	});

	test("no secret stands in the log", async () => {
		await linkedAgent();
		const key = findEnrolment(folders.flags.stateDir)?.key ?? "none";
		expect(folders.readLog()).not.toContain(key.split("\n")[1]);
		expect(readFileSync(join(folders.flags.logDir, "agent.log"), "utf8")).not.toContain(controller.token);
	});
});
