/** Everything of ours is killed or stopped at once while disks are frozen: the product's guard alone is left. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../fixtures/agent-process.ts";
import { connectAsker, type JobClient } from "../fixtures/job-client.ts";
import { type LoopFileSystem, makeLoopFileSystem, startGuard, thaw } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { processTree } from "../fixtures/process-states.ts";
import { startProductGuard } from "../fixtures/product-guard.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { makeSourceExtension } from "../fixtures/source-extension.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze", "mount");
const holdLimitMs = 2_000;
const promiseMs = holdLimitMs + 2_000;

describe.skipIf(missing)(`nothing of ours is left but the guard${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let folders: AgentFoldersFixture;
	let lower: LoopFileSystem;
	let upper: LoopFileSystem;

	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		folders = stack.use(makeAgentFolders());
		const dir = folders.root;
		stack.use(startGuard({ dir, limitMs: 110_000 }));
		lower = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 64, name: "machine" }));
		const inside = join(lower.mountPoint, "images");
		mkdirSync(inside);
		upper = stack.use(await makeLoopFileSystem({ dir: inside, fsType: "ext4", sizeMiB: 16, name: "inner" }));
		// As on a machine with one disk: what the agent writes would wait for the thaw.
		folders.flags.stateDir = join(lower.mountPoint, "state");
		folders.flags.logDir = join(lower.mountPoint, "log");
		folders.writeConfig({
			extensions: { installFrom: [makeSourceExtension(dir)] },
			fileSystems: { include: [lower, upper].map(({ mountPoint }) => ({ mountPoint })) },
			scriptsFolder: writeSession(dir),
		});
	});
	afterEach(() => stack.disposeAsync());

	/** A script that stays alive through the window. */
	function writeSession(dir: string): string {
		const scripts = join(dir, "scripts.d");
		mkdirSync(scripts, { mode: 0o755 });
		const script = join(dir, "hold.sh");
		writeFileSync(script, "#!/bin/sh\necho ready\nexec cat >/dev/null\n");
		chmodSync(script, 0o755);
		const dropIn = { version: 1, application: "app", order: 50, session: { command: [script], deadlineMs: 5_000 } };
		writeFileSync(join(scripts, "50-app.json"), JSON.stringify(dropIn), { mode: 0o600 });
		return scripts;
	}

	type Held = { agent: AgentProcess; asker: JobClient; jobId: string; freezer: number };
	async function hold(jobId: string): Promise<Held> {
		const agent = stack.use(await startAgent(folders));
		const asker = stack.use(await connectAsker(agent));
		const disks = { include: [lower.device, upper.device].map((device) => device.replace("/dev/", "")) };
		const order = { disks, holdLimitMs, level: "application", acceptLevel: "crash" } as const;
		expect(await asker.order(jobId, order)).toMatchObject({ type: "accepted" });
		await asker.until("prepared", jobId, 30_000);
		await asker.tell(jobId, "freeze");
		await asker.until("frozen", jobId);
		const ledger = JSON.parse(readFileSync(join(folders.flags.runDir, "freezes", `${jobId}.json`), "utf8"));
		return { agent, asker, jobId, freezer: ledger.freezer.pid };
	}
	/** At once, as the end of a control group is. */
	function sendAll(agent: AgentProcess, signal: "SIGKILL" | "SIGSTOP"): number[] {
		const pids = processTree(agent.pid);
		for (const pid of signal === "SIGKILL" ? pids : []) process.kill(pid, "SIGSTOP");
		for (const pid of pids.toReversed()) process.kill(pid, signal);
		return pids;
	}
	const writable = async (limitMs: number) =>
		(await Promise.all([lower, upper].map(({ mountPoint }) => isWritable(mountPoint, limitMs)))).every(Boolean);

	test("killed, with the guard: both levels are writable long before the deadline, and the next start knows", async () => {
		stack.use(await startProductGuard(folders.flags.runDir));
		const { agent, jobId, freezer } = await hold("killed");
		expect(await isWritable(upper.mountPoint, 200)).toBe(false);
		const pids = sendAll(agent, "SIGKILL");
		expect(pids).toContain(freezer);
		// Agent, extension, freezer, and what the script became.
		expect(pids.length).toBeGreaterThanOrEqual(4);
		expect(await writable(holdLimitMs)).toBe(true);
		await agent.exited;
		await poll(() => existsSync(join(folders.flags.runDir, "freezes", `${jobId}.json`))).toBe(false);
		const again = stack.use(await connectAsker(stack.use(await startAgent(folders))));
		expect((await again.client.call("job.report", { jobId })).report).toMatchObject({ error: { code: "interrupted" } });
	}, 60_000);

	test("killed, without the guard: frozen beyond the promise's beginning (negative control)", async () => {
		const { agent } = await hold("unguarded");
		sendAll(agent, "SIGKILL");
		expect(await isWritable(upper.mountPoint, 1_000)).toBe(false);
		await agent.exited;
		expect(await thaw(lower.mountPoint)).toBe(true);
		expect(await thaw(upper.mountPoint)).toBe(true);
	}, 60_000);

	test("killed, and mounted over since the freeze: what is open in the guard leads there", async () => {
		stack.use(await startProductGuard(folders.flags.runDir));
		const { agent } = await hold("mounted-over");
		const { mountPoint } = upper;
		await execa("mount", ["-t", "tmpfs", "tmpfs", mountPoint]);
		stack.defer(async () => void (await execa("umount", [mountPoint], { reject: false })));
		sendAll(agent, "SIGKILL");
		expect(await isWritable(lower.mountPoint, holdLimitMs)).toBe(true);
		await agent.exited;
		await execa("umount", [mountPoint]);
		expect(await thaw(mountPoint)).toBe(false);
	}, 60_000);

	test("stopped, all of them: writable by the deadline and 2 s, and what goes on later finds nothing to do", async () => {
		stack.use(await startProductGuard(folders.flags.runDir));
		const { agent, asker, jobId, freezer } = await hold("stopped");
		const pids = sendAll(agent, "SIGSTOP");
		expect(await writable(promiseMs)).toBe(true);
		for (const pid of pids) if (pid !== freezer) process.kill(pid, "SIGCONT");
		const { report } = await asker.until("report", jobId, 30_000);
		expect(report).toMatchObject({ achieved: "none" });
	}, 60_000);
});
