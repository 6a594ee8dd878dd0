import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type Enrolment, findEnrolment, writeEnrolment } from "../../agent/link/enrolment-file.ts";
import { makeTicketFile } from "../../agent/link/ticket-file.ts";
import { makeWriteHold } from "../../agent/write-hold.ts";
import type { AgentStatus } from "../../contracts/local-calls.ts";
import { connectController } from "../../controller/client.ts";
import { readOperatorFiles } from "../../controller/operator-files.ts";
import { startFakeController } from "../fakes/fake-controller.ts";
import { makeAgentFolders, startAgent } from "../fixtures/agent-process.ts";
import { startControllerProcess } from "../fixtures/controller-process.ts";
import { makeTestFolder } from "../fixtures/controller-run.ts";
import { enrolWith, type LinkBench, linkOf, makeLinkBench, reloadLink } from "../fixtures/link-bench.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { mountSmall } from "../fixtures/small-mount.ts";

const missing = requireTools("root", "mount");
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

describe.skipIf(missing).concurrent(`certificates of the link${missing ? `: ${missing}` : ""}`, () => {
	/** Another controller with a CA of its own. */
	async function otherController({ stack }: LinkBench) {
		const folder = stack.use(await makeTestFolder());
		return stack.use(await startFakeController(folder.path));
	}
	/** As if the certificate, which has a minute to live, had come that long ago. */
	async function makeOlder({ folders, kept }: LinkBench, minutes: number): Promise<Enrolment> {
		const old = { ...kept(), enrolledAt: new Date(Date.now() - minutes * 60_000).toISOString() };
		await writeEnrolment(folders.flags.stateDir, old);
		return old;
	}

	test("renewed at two thirds of the life with a new key, after the new one was let in; the link stays", async () => {
		await using bench = await makeLinkBench(60_000);
		const { controller, kept } = bench;
		await bench.enrol();
		const old = await makeOlder(bench, 30);
		// The first answer is no good: a certificate of another CA.
		const foreign = await otherController(bench);
		const csrs: string[] = [];
		controller.onMessage = async (message) => {
			if (message.type !== "renew") return;
			csrs.push(message.csr);
			const { authority } = csrs.length === 1 ? foreign : controller;
			controller.send({ type: "renewed", certificate: await authority.issueAgent("agent-1", message.csr) });
		};
		const agent = await bench.start();
		await poll(() => csrs.length, 40_000).toBe(1);
		await poll(() => bench.folders.readLog()).toMatch(/certificate-invalid/);
		expect(kept()).toEqual(old);
		await poll(() => kept().renewedAt, 40_000).toBeDefined();
		expect(kept().certificate).not.toBe(old.certificate);
		expect(kept().key).not.toBe(old.key);
		expect(new Set(csrs).size).toBe(csrs.length);
		// Two connections: the link, and the proof, which said nothing.
		expect(bench.sent("hello")).toHaveLength(1);
		expect(await linkOf(agent)).toMatchObject({ connected: true });
	});

	test("before two thirds of the life nothing is renewed", async () => {
		await using bench = await makeLinkBench(20 * 60_000);
		await bench.enrol();
		await makeOlder(bench, 20);
		await bench.start();
		await poll(() => bench.sent("ticket-kept").length, 40_000).toBe(1);
		// Of a renewal that is due the first attempt comes within a second.
		await sleep(2_500);
		expect(bench.sent("renew")).toEqual([]);
	});

	test("on a full disk the old certificate and ticket stay as they are, and new ones are kept once there is room", async () => {
		await using bench = await makeLinkBench();
		await bench.enrol();
		const enrolment = bench.kept();
		const stateDir = join(bench.folders.root, "full");
		await using disk = await mountSmall(stateDir, 64);
		const tickets = makeTicketFile(stateDir, makeWriteHold());
		await writeEnrolment(stateDir, enrolment);
		await tickets.keep("agent-1", "first");
		await disk.fill();
		const renewed = { ...enrolment, renewedAt: new Date().toISOString() };
		await expect(writeEnrolment(stateDir, renewed)).rejects.toMatchObject({ code: "disk-full" });
		await expect(tickets.keep("agent-1", "second")).rejects.toMatchObject({ code: "disk-full" });
		expect(findEnrolment(stateDir)).toEqual(enrolment);
		expect(await tickets.find("agent-1")).toBe("first");
		disk.empty();
		await writeEnrolment(stateDir, renewed);
		expect(findEnrolment(stateDir)).toEqual(renewed);
		expect(await tickets.keep("agent-1", "second")).toBe(true);
		expect(await tickets.find("agent-1")).toBe("second");
	});

	test("revoked: said in status and log, asked for rarely, nothing is deleted; over a link that lives, and at the next one", async () => {
		await using bench = await makeLinkBench();
		const { controller, kept } = bench;
		const agent = await bench.linked();
		const before = kept();
		controller.behaviour.refusesWith = "certificate-revoked";
		controller.send({ type: "error", error: { code: "certificate-revoked", message: "agent-1 was revoked" } });
		controller.sockets.at(-1)?.close(1008, "certificate-revoked");
		await poll(async () => (await linkOf(agent)).error?.code).toBe("certificate-revoked");
		const hellos = () => bench.sent("hello").length;
		const seen = hellos();
		await sleep(2_500);
		expect(hellos()).toBe(seen);
		await reloadLink(agent);
		await poll(hellos).toBe(seen + 1);
		await poll(async () => (await linkOf(agent)).error?.code).toBe("certificate-revoked");
		expect(kept()).toEqual(before);
		expect(bench.folders.readLog()).toMatch(/certificate-revoked/);
		expect(controller.requests).toEqual([]);
	});

	test("a damaged enrolment file or CA in it is named, and nothing is sent", async () => {
		await using bench = await makeLinkBench();
		const { controller } = bench;
		const { stateDir } = bench.folders.flags;
		const agent = await bench.linked();
		const good = bench.kept();
		const damaged = (text: string) => text.replace(/[A-Za-z0-9]{20}/, "AAAAAAAAAAAAAAAAAAAA");
		const path = join(stateDir, "enrolment", "enrolment.json");
		const seen = controller.messages.length;
		for (const bad of [
			{ ...good, ca: damaged(good.ca) },
			{ ...good, certificate: damaged(good.certificate) },
			{ ...good, key: damaged(good.key) },
			{ ...good, ca: (await otherController(bench)).authority.certificate },
		]) {
			await writeEnrolment(stateDir, bad);
			await reloadLink(agent);
			await poll(async () => (await linkOf(agent)).error).toMatchObject({
				code: "state-unusable",
				message: expect.stringContaining(path),
			});
		}
		writeFileSync(path, "{");
		await reloadLink(agent);
		await poll(async () => (await linkOf(agent)).error?.message).toMatch(/no JSON/);
		expect(controller.messages).toHaveLength(seen);
		await writeEnrolment(stateDir, good);
		await reloadLink(agent);
		await poll(async () => (await linkOf(agent)).connected).toBe(true);
		await poll(() => controller.messages.at(-1)?.type).toBe("ticket-kept");
		const ticketPath = join(stateDir, "enrolment", "ticket.json");
		writeFileSync(ticketPath, "{");
		await reloadLink(agent);
		await poll(async () => (await linkOf(agent)).error?.message).toContain(ticketPath);
		// What the message asks for helps.
		await bench.enrol();
		await reloadLink(agent);
		await poll(async () => (await linkOf(agent)).connected).toBe(true);
	});

	test("expired: the agent says so and asks the controller to be enrolled anew, without a certificate", async () => {
		await using bench = await makeLinkBench(-60_000);
		await bench.enrol();
		const agent = await bench.start();
		await poll(async () => (await linkOf(agent)).error).toMatchObject({
			code: "certificate-invalid",
			message: expect.stringContaining("expired"),
		});
		const { requests } = bench.controller;
		await poll(() => requests.length).toBe(1);
		expect(requests[0]).toMatchObject({
			withCertificate: false,
			body: { formerAgentId: "agent-1", reason: expect.stringContaining("expired") },
		});
		await reloadLink(agent);
		await sleep(500);
		expect(requests).toHaveLength(1);
	});

	test("another controller: the old link ends, and its jobs, reports and the job that runs are told to it alone", async () => {
		await using bench = await makeLinkBench();
		const { controller: one } = bench;
		const { stateDir } = bench.folders.flags;
		const two = await otherController(bench);
		one.behaviour.acknowledges = false;
		const agent = await bench.linked();
		const order = (jobId: string) => ({
			type: "order",
			order: { jobId, level: "crash", acceptLevel: "crash", disks: "all" },
		});
		one.send(order("dies-in-preparing.one"));
		await poll(() => one.messages.some(({ type }) => type === "report"), 30_000).toBe(true);
		one.send(order("good.running"));
		await poll(
			() => one.messages.some((said) => said.type === "prepared" && said.jobId === "good.running"),
			30_000,
		).toBe(true);
		await enrolWith(two, stateDir);
		await reloadLink(agent);
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
		await enrolWith(one, stateDir);
		await reloadLink(agent);
		const reports = () => new Set(one.messages.flatMap((said) => (said.type === "report" ? [said.report.jobId] : [])));
		await poll(reports).toEqual(new Set(["dies-in-preparing.one", "good.running"]));
	});
});

describe.skipIf(missingClock).concurrent(`clocks${missingClock ? `: ${missingClock}` : ""}`, () => {
	/** The real controller, with so many agents enrolled. */
	async function enrolled(stack: AsyncDisposableStack, count: number) {
		const folder = stack.use(await makeTestFolder());
		const stateDir = join(folder.path, "state");
		const controller = stack.use(await startControllerProcess({ stateDir, port: 0 }));
		using client = connectController(await readOperatorFiles(stateDir));
		const folders = Array.from({ length: count }, () => stack.use(makeAgentFolders()));
		for (const { flags } of folders)
			await enrolWith({ url: controller.info.url, token: (await client.createToken()).token }, flags.stateDir);
		return { stateDir, controller, folders };
	}

	test("one that is off by days is named with both times, and nobody is taken for expired or a stranger", async () => {
		await using stack = new AsyncDisposableStack();
		const { folders } = await enrolled(stack, 2);
		const [behind, ahead] = await Promise.all(
			[-3, 3].map(async (days, index): Promise<AgentStatus["link"]> => {
				const own = folders[index];
				if (own === undefined) throw new Error("no folders");
				const agent = stack.use(await startAgent(own, clockAhead(days * dayS)));
				const read = { link: await linkOf(agent) };
				await poll(async () => {
					read.link = await linkOf(agent);
					return read.link.error?.code ?? read.link.clockDifferenceMs;
				}, 30_000).toBeDefined();
				return read.link;
			}),
		);
		// Behind: the server's certificate is not good yet. Ahead: all is good still, so it is told as a difference.
		const today = new Date().toISOString().slice(0, 10);
		expect(behind?.error).toMatchObject({ code: "clock-wrong" });
		expect(behind?.error?.message).toContain(new Date(Date.now() - 3 * dayS * 1000).toISOString().slice(0, 10));
		expect(behind?.error?.message).toContain(today);
		expect(Math.round((ahead?.clockDifferenceMs ?? 0) / 1000 / dayS)).toBe(-3);
	});

	test("a controller that is ahead by more than a certificate's life says clock-wrong, not expired", async () => {
		await using stack = new AsyncDisposableStack();
		const { stateDir, controller, folders } = await enrolled(stack, 1);
		await controller[Symbol.asyncDispose]();
		const { port } = controller.info;
		// Its own certificate is made anew, backdated by its own clock: the agent sees that one first.
		stack.use(await startControllerProcess({ stateDir, port }, clockAhead(100 * dayS)));
		const [own] = folders;
		if (own === undefined) throw new Error("no folders");
		const agent = stack.use(await startAgent(own));
		await poll(async () => (await linkOf(agent)).error?.code, 30_000).toBe("clock-wrong");
	});
});
