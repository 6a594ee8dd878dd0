/** A copy of a machine is not the machine: copied state folders, other ids, an image put back. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openJournal } from "../../agent/journal.ts";
import { findEnrolment } from "../../agent/link/enrolment-file.ts";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../fixtures/agent-process.ts";
import { type ControllerRun, makeTestFolder, startController } from "../fixtures/controller-run.ts";
import { enrolWith, linkOf, reloadLink, statusOf } from "../fixtures/link-bench.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount");

/** A machine that is enrolled with a real controller, and what becomes of copies of it. */
type Site = AsyncDisposable & {
	readonly stateDir: string;
	/** Of the original. */
	readonly folders: AgentFoldersFixture;
	readonly agentId: string;
	controller: ControllerRun;
	start(where: AgentFoldersFixture, wrapper?: readonly string[]): Promise<AgentProcess>;
	enrol(where: AgentFoldersFixture): Promise<{ agentId: string }>;
	/** Resolves when the agent runs, is linked, and the controller knows that it kept its ticket. */
	linked(where: AgentFoldersFixture): Promise<AgentProcess>;
	/** One more connection, with a ticket of its own. */
	goOn(where: AgentFoldersFixture, agent: AgentProcess): Promise<void>;
	/** Another machine's folders with a copy of this state. */
	copyState(of: AgentFoldersFixture): AgentFoldersFixture;
	/** A folder of this test's own on a disk. */
	makeFolder(): string;
};

async function makeSite(): Promise<Site> {
	await using undo = new AsyncDisposableStack();
	const folders = undo.use(makeAgentFolders());
	const stateDir = join(undo.use(await makeTestFolder()).path, "state");
	const live = { controller: await startController(stateDir) };
	undo.defer(() => live.controller.stop());
	const enrol = async (where: AgentFoldersFixture) => {
		const { token } = await live.controller.client.createToken();
		return await enrolWith({ url: live.controller.info.url, token }, where.flags.stateDir);
	};
	const { agentId } = await enrol(folders);
	const stack = undo.move();
	const countKept = (where: AgentFoldersFixture) => readLogIfThere(where).split("the ticket is kept").length;
	async function untilKept(where: AgentFoldersFixture, before: number): Promise<void> {
		await poll(() => countKept(where), 40_000).toBeGreaterThan(before);
		// The answer comes after what was said before it: the controller has heard that the ticket is kept.
		await live.controller.client.readAgentStatus(findEnrolment(where.flags.stateDir)?.agentId ?? "");
	}
	const start: Site["start"] = async (where, wrapper) => stack.use(await startAgent(where, {}, wrapper));
	return {
		stateDir,
		folders,
		agentId,
		get controller() {
			return live.controller;
		},
		set controller(next) {
			live.controller = next;
		},
		start,
		enrol,
		async linked(where) {
			const before = countKept(where);
			const agent = await start(where);
			await untilKept(where, before);
			return agent;
		},
		async goOn(where, agent) {
			const before = countKept(where);
			await reloadLink(agent);
			await untilKept(where, before);
		},
		copyState(of) {
			const copy = stack.use(makeAgentFolders());
			copyFolder(of.flags.stateDir, copy.flags.stateDir);
			return copy;
		},
		makeFolder() {
			const folder = mkdtempSync("/var/lib/stillpoint-test-saved-");
			stack.defer(() => rmSync(folder, { recursive: true, force: true }));
			return folder;
		},
		[Symbol.asyncDispose]: () => stack.disposeAsync(),
	};
}

function readLogIfThere(where: AgentFoldersFixture): string {
	return existsSync(join(where.flags.logDir, "agent.log")) ? where.readLog() : "";
}

/** With owners and modes, as an image has them. */
function copyFolder(from: string, to: string): void {
	execFileSync("cp", ["-a", from, to]);
}

async function stop(agent: AgentProcess): Promise<void> {
	agent.child.kill("SIGTERM");
	await agent.exited;
}

/** A job of the link whose report was never given, and one that ran: what a copy must not tell. */
function leaveOldJobs(where: AgentFoldersFixture): void {
	using journal = openJournal(join(where.flags.stateDir, "journal.db"));
	const order = { jobId: "old-running", level: "crash", acceptLevel: "crash", disks: "all" } as never;
	const createdAt = new Date().toISOString();
	journal.addJob({ jobId: "old-running", order, asker: "link", phase: "running", createdAt });
}

async function expectRefused(site: Site, copy: AgentProcess, where: AgentFoldersFixture, why: RegExp): Promise<void> {
	const { controller, agentId } = site;
	const requests = async () =>
		(await controller.client.listEnrolmentRequests()).map(({ formerAgentId, reason }) => ({ formerAgentId, reason }));
	await poll(async () => (await linkOf(copy)).error?.code, 30_000).toBe("identity-changed");
	expect((await linkOf(copy)).error?.message).toMatch(why);
	expect(await linkOf(copy)).toMatchObject({ enrolled: false, connected: false });
	await poll(requests, 30_000).toMatchObject([{ formerAgentId: agentId, reason: expect.stringMatching(why) }]);
	await poll(() => where.readLog()).toMatch(/asked the controller to be enrolled anew/);
	await poll(async () => (await statusOf(copy)).lastJobs).toEqual([]);
	expect(await linkOf(copy)).toMatchObject({ unsentReports: 0 });
	expect(
		readdirSync(where.flags.stateDir).filter((name) => name.startsWith("journal-of-another-machine")),
	).toHaveLength(1);
	expect(controller.lines.join("\n")).not.toMatch(/report of an unknown job/);
}

describe.skipIf(missing).concurrent(`changed identity${missing ? `: ${missing}` : ""}`, () => {
	test("a state folder that was copied and used after the original went on: refused, asks, and its old jobs are told to nobody", async () => {
		await using site = await makeSite();
		const { folders, agentId } = site;
		const original = await site.linked(folders);
		const copied = site.copyState(folders);
		leaveOldJobs(copied);
		await site.goOn(folders, original);
		await stop(original);
		const copy = await site.start(copied);
		await expectRefused(site, copy, copied, /old ticket/);
		// For good, also in its next life and while the original is away; and the original goes on.
		await stop(copy);
		const again = await site.start(copied);
		await poll(async () => (await linkOf(again)).error?.code, 30_000).toBe("identity-changed");
		expect(findEnrolment(copied.flags.stateDir)?.identityChanged).toBeDefined();
		await site.linked(folders);
		// Enrolled anew it is an agent of its own.
		const { agentId: newId } = await site.enrol(copied);
		expect(newId).not.toBe(agentId);
		await reloadLink(again);
		await poll(async () => (await linkOf(again)).connected, 30_000).toBe(true);
		expect((await site.controller.client.listAgents()).map(({ connected }) => connected)).toEqual([true, true]);
	});

	test("an image put back in place shows an old ticket: the same, on the same machine", async () => {
		await using site = await makeSite();
		const { folders } = site;
		const agent = await site.linked(folders);
		const saved = join(site.makeFolder(), "state");
		copyFolder(folders.flags.stateDir, saved);
		await site.goOn(folders, agent);
		await stop(agent);
		rmSync(folders.flags.stateDir, { recursive: true });
		copyFolder(saved, folders.flags.stateDir);
		leaveOldJobs(folders);
		await expectRefused(site, await site.start(folders), folders, /old ticket/);
	});

	test("a controller put back to an earlier time goes on with its agents, says so, and still refuses a copy", async () => {
		await using site = await makeSite();
		const { folders, agentId } = site;
		const agent = await site.linked(folders);
		const { port } = site.controller.info;
		await site.controller.stop();
		const backup = join(site.makeFolder(), "state");
		copyFolder(site.stateDir, backup);
		site.controller = await startController(site.stateDir, { port });
		await site.goOn(folders, agent);
		const copied = site.copyState(folders);
		leaveOldJobs(copied);
		await site.goOn(folders, agent);
		await site.goOn(folders, agent);
		await site.controller.stop();
		rmSync(site.stateDir, { recursive: true });
		copyFolder(backup, site.stateDir);
		site.controller = await startController(site.stateDir, { port });
		await site.goOn(folders, agent);
		const { entries } = await site.controller.client.listAudit({ action: "agent.tell-controller-put-back" });
		expect(entries).toMatchObject([{ actor: agentId, outcome: "ok" }]);
		expect(site.controller.lines.join("\n")).toMatch(/this controller was put back to an earlier time/);
		await site.goOn(folders, agent);
		const later = await site.controller.client.listAudit({ action: "agent.tell-controller-put-back" });
		expect(later.entries).toHaveLength(1);
		await stop(agent);
		await expectRefused(site, await site.start(copied), copied, /old ticket/);
	});

	test("a copy that connects while the original is connected is refused, and the original is not disturbed", async () => {
		await using site = await makeSite();
		await site.linked(site.folders);
		const copied = site.copyState(site.folders);
		leaveOldJobs(copied);
		await expectRefused(site, await site.start(copied), copied, /connected already/);
		expect(await site.controller.client.readAgent(site.agentId)).toMatchObject({ connected: true });
		expect(site.controller.lines.join("\n")).toMatch(/agent link refused.*identity-changed/);
	});

	test("the second of two at the same time sees the first, whoever that is", async () => {
		await using site = await makeSite();
		await stop(await site.linked(site.folders));
		const copied = site.copyState(site.folders);
		const both = await Promise.all([site.start(site.folders), site.start(copied)]);
		await poll(async () => {
			const links = await Promise.all(both.map(linkOf));
			return links.map(({ connected, error }) => (connected ? "connected" : error?.code)).sort();
		}, 30_000).toEqual(["connected", "identity-changed"]);
	});

	for (const [part, path] of [
		["machine id", "/etc/machine-id"],
		["SMBIOS UUID", "/sys/class/dmi/id/product_uuid"],
	] as const)
		test.skipIf(!existsSync(path) && part === "machine id")(
			`another ${part}: never linked with the old certificate, asks without it`,
			async () => {
				await using site = await makeSite();
				// The enrolled machine had another one; where the kernel shows none, the running one is given one.
				const copied = site.copyState(site.folders);
				leaveOldJobs(copied);
				const enrolmentPath = join(copied.flags.stateDir, "enrolment", "enrolment.json");
				const enrolment = JSON.parse(readFileSync(enrolmentPath, "utf8"));
				const others = { machineId: "0".repeat(32), systemUuid: "00000000-0000-4000-8000-000000000001" };
				const key = part === "machine id" ? "machineId" : "systemUuid";
				const machine = { ...enrolment.machine, [key]: others[key] };
				writeFileSync(enrolmentPath, JSON.stringify({ ...enrolment, machine }), { mode: 0o600 });
				{
					using journal = openJournal(join(copied.flags.stateDir, "journal.db"));
					journal.writeIdentity(JSON.stringify(machine));
				}
				const id = part === "machine id" ? "1".repeat(32) : "00000000-0000-4000-8000-000000000002";
				await expectRefused(site, await startInNamespace(site, copied, path, id), copied, /its ids are others/);
				expect(site.controller.lines.filter((line) => line.includes("agent connected"))).toEqual([]);
			},
		);

	/** In a mount namespace of its own in which the file says another id. */
	async function startInNamespace(site: Site, where: AgentFoldersFixture, path: string, id: string) {
		const shown = join(where.root, "shown-id");
		writeFileSync(shown, `${id}\n`);
		const dmi = join(where.root, "dmi");
		const bind = existsSync(path)
			? `mount --bind ${shown} ${path}`
			: `mkdir -p ${dmi} && cp ${shown} ${dmi}/product_uuid && mount -t tmpfs none /sys/class && mkdir -p /sys/class/dmi/id && mount --bind ${dmi} /sys/class/dmi/id`;
		const wrapper = join(where.root, "in-namespace.sh");
		writeFileSync(wrapper, `#!/bin/sh\nset -e\n${bind}\nexec "$@"\n`, { mode: 0o755 });
		return await site.start(where, ["unshare", "-m", wrapper]);
	}
});
