import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { enrol } from "../../agent/link/enrolment.ts";
import { type Enrolment, findEnrolment, writeEnrolment } from "../../agent/link/enrolment-file.ts";
import { makeHttpsTransport } from "../../agent/link/https-transport.ts";
import type { AgentStatus } from "../../contracts/local-calls.ts";
import { connectController } from "../../controller/client.ts";
import { readOperatorFiles } from "../../controller/operator-files.ts";
import { readMachineIdentity } from "../../platform/linux/machine-identity.ts";
import { type FakeController, startFakeController } from "../fakes/fake-controller.ts";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../fixtures/agent-process.ts";
import { startControllerProcess } from "../fixtures/controller-process.ts";
import { makeTestFolder } from "../fixtures/controller-run.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");
const missingClock = requireTools("root", "faketime");
const dayS = 86_400;
const clockLibrary = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/** The wall clock only: Node's timers live on the monotonic one. */
const clockAhead = (seconds: number) => ({
	LD_PRELOAD: clockLibrary,
	FAKETIME: `${seconds >= 0 ? "+" : ""}${seconds}`,
	DONT_FAKE_MONOTONIC: "1",
	FAKETIME_DONT_FAKE_MONOTONIC: "1",
});

describe.skipIf(missing)(`certificates of the link${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let folders: AgentFoldersFixture;
	beforeEach(() => {
		stack = new AsyncDisposableStack();
		folders = stack.use(makeAgentFolders());
	});
	afterEach(() => stack.disposeAsync());

	async function fakeController(agentCertificateMs?: number): Promise<FakeController> {
		const folder = stack.use(await makeTestFolder());
		return stack.use(await startFakeController(folder.path, "127.0.0.1", agentCertificateMs));
	}
	async function enrolWith(to: { url: string; token: string }) {
		return await enrol({
			controllerUrl: to.url,
			token: to.token,
			stateDir: folders.flags.stateDir,
			machine: await readMachineIdentity(),
			transport: makeHttpsTransport(undefined),
			signal: AbortSignal.timeout(20_000),
		});
	}
	function kept(): Enrolment {
		const enrolment = findEnrolment(folders.flags.stateDir);
		if (enrolment === undefined) throw new Error("not enrolled");
		return enrolment;
	}
	async function start(environment: Record<string, string> = {}): Promise<AgentProcess> {
		return stack.use(await startAgent(folders, environment));
	}
	async function linkOf(agent: AgentProcess): Promise<AgentStatus["link"]> {
		await using channel = await agent.connect();
		return (await channel.call("agent.status", {})).link;
	}
	async function reload(agent: AgentProcess): Promise<void> {
		await using channel = await agent.connect();
		await channel.call("link.reload", {});
	}
	const serialOf = ({ certificate }: Enrolment) => new X509Certificate(certificate).serialNumber;

	test("renewed at two thirds of the life with a new key, after the new one was let in; the link stays", async () => {
		const controller = await fakeController(9_000);
		await enrolWith(controller);
		const old = kept();
		// The first two answers are no good: a certificate of another CA, and one for another agent.
		const foreign = await fakeController();
		const csrs: string[] = [];
		controller.onMessage = async (message) => {
			if (message.type !== "renew") return;
			csrs.push(message.csr);
			const issuer = csrs.length === 1 ? foreign.authority : controller.authority;
			const certificate = await issuer.issueAgent(csrs.length === 2 ? "agent-2" : "agent-1", message.csr);
			controller.send({ type: "renewed", certificate });
		};
		const agent = await start();
		await poll(() => csrs.length, 20_000).toBe(1);
		const lifetimeMs = new X509Certificate(old.certificate).validToDate.getTime() - Date.parse(old.enrolledAt);
		expect((Date.now() - Date.parse(old.enrolledAt)) / lifetimeMs).toBeGreaterThan(0.55);
		await poll(() => csrs.length, 20_000).toBe(2);
		expect(kept()).toEqual(old);
		await poll(() => kept().renewedAt, 20_000).toBeDefined();
		expect([serialOf(kept()), kept().key]).not.toEqual([serialOf(old), old.key]);
		expect(kept().key).not.toBe(old.key);
		expect(new Set(csrs).size).toBe(csrs.length);
		// Two connections: the link, and the proof, which said nothing.
		expect(controller.messages.filter(({ type }) => type === "hello")).toHaveLength(1);
		expect(await linkOf(agent)).toMatchObject({ connected: true });
		expect(folders.readLog()).toMatch(/certificate-invalid/);
	});

	test("revoked: said in status and log, asked for rarely, nothing is deleted; over a link that lives, and at the next one", async () => {
		const controller = await fakeController();
		await enrolWith(controller);
		const before = kept();
		const agent = await start();
		await poll(async () => (await linkOf(agent)).connected).toBe(true);
		controller.behaviour.refusesWith = "certificate-revoked";
		controller.send({ type: "error", error: { code: "certificate-revoked", message: "agent-1 was revoked" } });
		controller.sockets.at(-1)?.close(1008, "certificate-revoked");
		await poll(async () => (await linkOf(agent)).error?.code).toBe("certificate-revoked");
		const hellos = () => controller.messages.filter(({ type }) => type === "hello").length;
		const seen = hellos();
		await sleep(2_500);
		expect(hellos()).toBe(seen);
		await reload(agent);
		await poll(hellos).toBe(seen + 1);
		await poll(async () => (await linkOf(agent)).error?.code).toBe("certificate-revoked");
		expect(kept()).toEqual(before);
		expect(folders.readLog()).toMatch(/certificate-revoked/);
		expect(controller.requests).toEqual([]);
	});

	test("a damaged enrolment file or CA in it is named, and nothing is sent", async () => {
		const controller = await fakeController();
		await enrolWith(controller);
		const good = kept();
		const damaged = (text: string) => text.replace(/[A-Za-z0-9]{20}/, "AAAAAAAAAAAAAAAAAAAA");
		const path = join(folders.flags.stateDir, "enrolment", "enrolment.json");
		const agent = await start();
		await poll(() => controller.messages.at(-1)?.type).toBe("ticket-kept");
		const seen = controller.messages.length;
		for (const bad of [
			{ ...good, ca: damaged(good.ca) },
			{ ...good, certificate: damaged(good.certificate) },
			{ ...good, key: damaged(good.key) },
			{ ...good, ca: (await fakeController()).authority.certificate },
		]) {
			await writeEnrolment(folders.flags.stateDir, bad);
			await reload(agent);
			await poll(async () => (await linkOf(agent)).error).toMatchObject({
				code: "state-unusable",
				message: expect.stringContaining(path),
			});
		}
		writeFileSync(path, "{");
		await reload(agent);
		await poll(async () => (await linkOf(agent)).error?.message).toMatch(/no JSON/);
		expect(controller.messages).toHaveLength(seen);
		await writeEnrolment(folders.flags.stateDir, good);
		await reload(agent);
		await poll(async () => (await linkOf(agent)).connected).toBe(true);
	});

	test("expired: the agent says so and asks the controller to be enrolled anew, without a certificate", async () => {
		const controller = await fakeController(1_500);
		await enrolWith(controller);
		await sleep(2_600);
		const agent = await start();
		await poll(async () => (await linkOf(agent)).error).toMatchObject({
			code: "certificate-invalid",
			message: expect.stringContaining("expired"),
		});
		await poll(() => controller.requests.length).toBe(1);
		expect(controller.requests[0]).toMatchObject({
			withCertificate: false,
			body: { formerAgentId: "agent-1", reason: expect.stringContaining("expired") },
		});
		await reload(agent);
		await sleep(500);
		expect(controller.requests).toHaveLength(1);
	});

	test("another controller: the old link ends, and its jobs, reports and the job that runs are told to it alone", async () => {
		const [one, two] = [await fakeController(), await fakeController()];
		one.behaviour.acknowledges = false;
		await enrolWith(one);
		const agent = await start();
		await poll(async () => (await linkOf(agent)).connected).toBe(true);
		const order = (jobId: string) => ({
			type: "order",
			order: { jobId, level: "crash", acceptLevel: "crash", disks: "all" },
		});
		one.send(order("dies-in-preparing.one"));
		await poll(() => one.messages.some(({ type }) => type === "report")).toBe(true);
		one.send(order("good.running"));
		await poll(() => one.messages.some((said) => said.type === "prepared" && said.jobId === "good.running")).toBe(true);
		await enrolWith(two);
		await reload(agent);
		await poll(() => two.messages.some(({ type }) => type === "hello")).toBe(true);
		await poll(async () => (await linkOf(agent)).heldBackReports).toBe(2);
		two.send(order("good.running"));
		two.send({ type: "freeze", jobId: "good.running" });
		two.send({ type: "request", requestId: "1", method: "status" });
		await poll(() => two.messages.some(({ type }) => type === "response")).toBe(true);
		await poll(() => two.messages.some(({ type }) => type === "refused")).toBe(true);
		expect(two.messages.find(({ type }) => type === "refused")).toMatchObject({ error: { code: "job-conflict" } });
		const told = JSON.stringify(two.messages.filter(({ type }) => type !== "refused"));
		expect(told).not.toMatch(/dies-in-preparing|good\.running/);
		expect(one.sockets.at(-1)?.readyState).toBe(3);
		// The former one returns: it gets what is its own.
		one.behaviour.acknowledges = true;
		await enrolWith(one);
		await reload(agent);
		const reports = () => new Set(one.messages.flatMap((said) => (said.type === "report" ? [said.report.jobId] : [])));
		await poll(reports).toEqual(new Set(["dies-in-preparing.one", "good.running"]));
	});

	describe.skipIf(missingClock)(`clocks${missingClock ? `: ${missingClock}` : ""}`, () => {
		test("one that is off by days is named with both times, and nobody is taken for expired or a stranger", async () => {
			const folder = stack.use(await makeTestFolder());
			const stateDir = join(folder.path, "state");
			const controller = stack.use(await startControllerProcess({ stateDir, port: 0 }));
			using client = connectController(await readOperatorFiles(stateDir));
			await enrolWith({ url: controller.info.url, token: (await client.createToken()).token });
			const seen: Record<string, AgentStatus["link"]> = {};
			for (const [name, days] of Object.entries({ behind: -3, ahead: 3 })) {
				const agent = await start(clockAhead(days * dayS));
				await poll(async () => {
					const link = await linkOf(agent);
					seen[name] = link;
					return link.error?.code ?? link.clockDifferenceMs;
				}).toBeDefined();
				agent.child.kill("SIGTERM");
				await agent.exited;
			}
			// Behind: the server's certificate is not good yet. Ahead: all is good still, so it is told as a difference.
			const today = new Date().toISOString().slice(0, 10);
			expect(seen["behind"]?.error).toMatchObject({ code: "clock-wrong" });
			expect(seen["behind"]?.error?.message).toContain(
				new Date(Date.now() - 3 * dayS * 1000).toISOString().slice(0, 10),
			);
			expect(seen["behind"]?.error?.message).toContain(today);
			expect(Math.round((seen["ahead"]?.clockDifferenceMs ?? 0) / 1000 / dayS)).toBe(-3);
		});

		test("a controller that is ahead by more than a certificate's life says clock-wrong, not expired", async () => {
			const folder = stack.use(await makeTestFolder());
			const stateDir = join(folder.path, "state");
			const first = await startControllerProcess({ stateDir, port: 0 });
			using client = connectController(await readOperatorFiles(stateDir));
			await enrolWith({ url: first.info.url, token: (await client.createToken()).token });
			await first[Symbol.asyncDispose]();
			const { port } = first.info;
			// Its own certificate is made anew, backdated by its own clock: the agent sees that one first.
			stack.use(await startControllerProcess({ stateDir, port }, clockAhead(100 * dayS)));
			const agent = await start();
			await poll(async () => (await linkOf(agent)).error?.code).toBe("clock-wrong");
		});
	});
});
