/** A copy of a machine is not the machine: copied state folders, other ids, an image put back. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openJournal } from "../../agent/journal.ts";
import { enrol } from "../../agent/link/enrolment.ts";
import { findEnrolment } from "../../agent/link/enrolment-file.ts";
import { makeHttpsTransport } from "../../agent/link/https-transport.ts";
import type { AgentStatus } from "../../contracts/local-calls.ts";
import { readMachineIdentity } from "../../platform/linux/machine-identity.ts";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../fixtures/agent-process.ts";
import { type ControllerRun, makeTestFolder, startController } from "../fixtures/controller-run.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount");

function readLogIfThere(where: AgentFoldersFixture): string {
	return existsSync(join(where.flags.logDir, "agent.log")) ? where.readLog() : "";
}

/** With owners and modes, as an image has them. */
function copyFolder(from: string, to: string): void {
	execFileSync("cp", ["-a", from, to]);
}

describe.skipIf(missing)(`changed identity${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let folders: AgentFoldersFixture;
	let controller: ControllerRun;
	let agentId: string;
	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		folders = stack.use(makeAgentFolders());
		const folder = stack.use(await makeTestFolder());
		controller = stack.use(await startController(join(folder.path, "state")));
		({ agentId } = await enrolHere(folders));
	});
	afterEach(() => stack.disposeAsync());

	async function enrolHere(where: AgentFoldersFixture) {
		return await enrol({
			controllerUrl: controller.info.url,
			token: (await controller.client.createToken()).token,
			stateDir: where.flags.stateDir,
			machine: await readMachineIdentity(),
			transport: makeHttpsTransport(undefined),
			signal: AbortSignal.timeout(20_000),
		});
	}
	async function linkOf(agent: AgentProcess): Promise<AgentStatus["link"]> {
		await using channel = await agent.connect();
		return (await channel.call("agent.status", {})).link;
	}
	async function statusOf(agent: AgentProcess): Promise<AgentStatus> {
		await using channel = await agent.connect();
		return await channel.call("agent.status", {});
	}
	async function linked(where: AgentFoldersFixture): Promise<AgentProcess> {
		const countKept = () => readLogIfThere(where).split("the ticket is kept").length;
		const before = countKept();
		const agent = stack.use(await startAgent(where));
		await poll(countKept).toBeGreaterThan(before);
		// The answer comes after what was said before it: the controller has heard that the ticket is kept.
		await controller.client.readAgentStatus(findEnrolment(where.flags.stateDir)?.agentId ?? "");
		return agent;
	}
	async function stop(agent: AgentProcess): Promise<void> {
		agent.child.kill("SIGTERM");
		await agent.exited;
	}
	/** Another machine's folders with a copy of this state. */
	function copyState(of: AgentFoldersFixture): AgentFoldersFixture {
		const copy = stack.use(makeAgentFolders());
		copyFolder(of.flags.stateDir, copy.flags.stateDir);
		return copy;
	}
	/** A job of the link whose report was never given, and one that ran: what a copy must not tell. */
	function leaveOldJobs(where: AgentFoldersFixture): void {
		using journal = openJournal(join(where.flags.stateDir, "journal.db"));
		const order = { jobId: "old-running", level: "crash", acceptLevel: "crash", disks: "all" } as never;
		const createdAt = new Date().toISOString();
		journal.addJob({ jobId: "old-running", order, asker: "link", phase: "running", createdAt });
	}
	const requests = async () =>
		(await controller.client.listEnrolmentRequests()).map(({ formerAgentId, reason }) => ({ formerAgentId, reason }));
	async function expectRefused(copy: AgentProcess, where: AgentFoldersFixture, why: RegExp): Promise<void> {
		await poll(async () => (await linkOf(copy)).error?.code).toBe("identity-changed");
		expect((await linkOf(copy)).error?.message).toMatch(why);
		expect(await linkOf(copy)).toMatchObject({ enrolled: false, connected: false });
		await poll(requests).toMatchObject([{ formerAgentId: agentId, reason: expect.stringMatching(why) }]);
		await poll(() => where.readLog()).toMatch(/asked the controller to be enrolled anew/);
		await poll(async () => (await statusOf(copy)).lastJobs).toEqual([]);
		expect((await statusOf(copy)).link).toMatchObject({ unsentReports: 0 });
		expect(
			readdirSync(where.flags.stateDir).filter((name) => name.startsWith("journal-of-another-machine")),
		).toHaveLength(1);
		expect(controller.lines.join("\n")).not.toMatch(/report of an unknown job/);
	}

	test("a state folder that was copied and used after the original went on: refused, asks, and its old jobs are told to nobody", async () => {
		const original = await linked(folders);
		await stop(original);
		const copied = copyState(folders);
		leaveOldJobs(copied);
		const second = await linked(folders);
		await stop(second);
		const copy = stack.use(await startAgent(copied));
		await expectRefused(copy, copied, /old ticket/);
		// For good, also in its next life and while the original is away; and the original goes on.
		await stop(copy);
		const again = stack.use(await startAgent(copied));
		await poll(async () => (await linkOf(again)).error?.code).toBe("identity-changed");
		expect(findEnrolment(copied.flags.stateDir)?.identityChanged).toBeDefined();
		await linked(folders);
		// Enrolled anew it is an agent of its own.
		const { agentId: newId } = await enrolHere(copied);
		expect(newId).not.toBe(agentId);
		await using channel = await again.connect();
		await channel.call("link.reload", {});
		await poll(async () => (await linkOf(again)).connected).toBe(true);
		expect((await controller.client.listAgents()).map(({ connected }) => connected)).toEqual([true, true]);
	});

	test("an image put back in place shows an old ticket: the same, on the same machine", async () => {
		await stop(await linked(folders));
		const saved = mkdtempSync("/var/lib/stillpoint-test-saved-");
		stack.defer(() => rmSync(saved, { recursive: true, force: true }));
		copyFolder(folders.flags.stateDir, join(saved, "state"));
		await stop(await linked(folders));
		rmSync(folders.flags.stateDir, { recursive: true });
		copyFolder(join(saved, "state"), folders.flags.stateDir);
		leaveOldJobs(folders);
		await expectRefused(stack.use(await startAgent(folders)), folders, /old ticket/);
	});

	test("a copy that connects while the original is connected is refused, and the original is not disturbed", async () => {
		await linked(folders);
		const copied = copyState(folders);
		leaveOldJobs(copied);
		await expectRefused(stack.use(await startAgent(copied)), copied, /connected already/);
		expect(await controller.client.readAgent(agentId)).toMatchObject({ connected: true });
		expect(controller.lines.join("\n")).toMatch(/agent link refused.*identity-changed/);
	});

	for (const [part, path] of [
		["machine id", "/etc/machine-id"],
		["SMBIOS UUID", "/sys/class/dmi/id/product_uuid"],
	] as const)
		test.skipIf(!existsSync(path) && part === "machine id")(
			`another ${part}: never linked with the old certificate, asks without it`,
			async () => {
				// The enrolled machine had another one; where the kernel shows none, the running one is given one.
				const copied = copyState(folders);
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
				await expectRefused(await startInNamespace(copied, path, id), copied, /its ids are others/);
				expect(controller.lines.filter((line) => line.includes("agent connected"))).toEqual([]);
			},
		);

	/** In a mount namespace of its own in which the file says another id. */
	async function startInNamespace(where: AgentFoldersFixture, path: string, id: string) {
		const shown = join(where.root, "shown-id");
		writeFileSync(shown, `${id}\n`);
		const dmi = join(where.root, "dmi");
		const bind = existsSync(path)
			? `mount --bind ${shown} ${path}`
			: `mkdir -p ${dmi} && cp ${shown} ${dmi}/product_uuid && mount -t tmpfs none /sys/class && mkdir -p /sys/class/dmi/id && mount --bind ${dmi} /sys/class/dmi/id`;
		const wrapper = join(where.root, "in-namespace.sh");
		writeFileSync(wrapper, `#!/bin/sh\nset -e\n${bind}\nexec "$@"\n`, { mode: 0o755 });
		return stack.use(await startAgent(where, {}, ["unshare", "-m", wrapper]));
	}

	test("the second of two at the same time sees the first, whoever that is", async () => {
		await stop(await linked(folders));
		const copied = copyState(folders);
		const both = await Promise.all([startAgent(folders), startAgent(copied)]);
		for (const one of both) stack.use(one);
		await poll(async () => {
			const links = await Promise.all(both.map(linkOf));
			return links.map(({ connected, error }) => (connected ? "connected" : error?.code)).sort();
		}).toEqual(["connected", "identity-changed"]);
	});
});
