/**
 * More than one process of a hold is gone, or its asker, while the agent's own state and logs lie on what is frozen.
 * Single ones, in every phase: fault-table.test.ts.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { OrderInput } from "../../contracts/order.ts";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../fixtures/agent-process.ts";
import { connectAsker, type JobClient } from "../fixtures/job-client.ts";
import { freeze, type LoopFileSystem, makeLoopFileSystem, startGuard, thaw } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { findBlockedThreads, processTree } from "../fixtures/process-states.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { makeSourceExtension } from "../fixtures/source-extension.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze");
const holdLimitMs = 2_000;
const promiseMs = holdLimitMs + 2_000;

describe.skipIf(missing)(`a hold with one process gone${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let folders: AgentFoldersFixture;
	let fileSystem: LoopFileSystem;
	let jobs = 0;

	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		folders = stack.use(makeAgentFolders());
		stack.use(startGuard({ dir: folders.root, limitMs: 110_000 }));
		fileSystem = stack.use(
			await makeLoopFileSystem({ dir: folders.root, fsType: "ext4", sizeMiB: 64, name: "machine" }),
		);
		const { mountPoint } = fileSystem;
		folders.flags.stateDir = join(mountPoint, "state");
		folders.flags.logDir = join(mountPoint, "log");
		folders.writeConfig({
			extensions: { installFrom: [makeSourceExtension(folders.root)] },
			fileSystems: { include: [{ mountPoint }] },
			scriptsFolder: join(folders.root, "no-scripts"),
		});
	});
	afterEach(() => stack.disposeAsync());

	type Held = { agent: AgentProcess; asker: JobClient; jobId: string; pids: { extension: number; freezer: number } };

	async function hold(changes: Partial<OrderInput> = {}): Promise<Held> {
		const agent = stack.use(await startAgent(folders));
		const asker = stack.use(await connectAsker(agent));
		jobs += 1;
		const jobId = `fault-${jobs}`;
		const disks = { include: [fileSystem.device.replace("/dev/", "")] };
		const answer = await asker.order(jobId, {
			disks,
			holdLimitMs,
			level: "file-system",
			acceptLevel: "crash",
			...changes,
		});
		expect(answer).toMatchObject({ type: "accepted" });
		await asker.until("prepared", jobId, 30_000);
		await asker.tell(jobId, "freeze");
		await asker.until("frozen", jobId);
		const extension = processTree(agent.pid)[1] ?? 0;
		const freezer = Object.values(readLedger(jobId).freezer)[0] as number;
		expect(freezer).toBeGreaterThan(0);
		return { agent, asker, jobId, pids: { extension, freezer } };
	}
	function readLedger(jobId: string) {
		return JSON.parse(readFileSync(join(folders.flags.runDir, "freezes", `${jobId}.json`), "utf8")) as {
			freezer: { pid: number };
		};
	}
	/** Stopped processes are let go again, so that they can end. */
	function stop(pid: number) {
		process.kill(pid, "SIGSTOP");
		stack.defer(() => {
			try {
				process.kill(pid, "SIGCONT");
			} catch {
				// Somebody ended it, as it should be.
			}
		});
	}
	const writable = () => isWritable(fileSystem.mountPoint, promiseMs + 500);

	test("nobody gone: while frozen nothing can be written, after the release it was file-system (negative control)", async () => {
		const { asker, jobId } = await hold({ snapshot: "unknown" });
		expect(await isWritable(fileSystem.mountPoint, 500)).toBe(false);
		expect((await asker.client.call("agent.status", {})).frozen).toMatchObject([{ mountPoint: fileSystem.mountPoint }]);
		await asker.tell(jobId, "release");
		const { report } = await asker.until("report", jobId);
		expect(report).toMatchObject({ achieved: null, held: "file-system" });
		expect(report?.fileSystems).toMatchObject([{ result: "thawed", frozenUntilSnapshotEnded: true }]);
		expect(await writable()).toBe(true);
	}, 60_000);

	test("extension and freezer are stopped: the agent alone thaws in time", async () => {
		const { asker, jobId, pids } = await hold();
		stop(pids.extension);
		stop(pids.freezer);
		expect(await writable()).toBe(true);
		expect((await asker.until("report", jobId, 30_000)).report).toMatchObject({ achieved: "none" });
	}, 60_000);

	test("all are killed at once: frozen, until the next start thaws by the ledger before it touches its state", async () => {
		const { agent, jobId, pids } = await hold();
		for (const pid of [pids.freezer, pids.extension, agent.pid]) process.kill(pid, "SIGSTOP");
		for (const pid of [pids.freezer, pids.extension, agent.pid]) process.kill(pid, "SIGKILL");
		await agent.exited;
		expect(await isWritable(fileSystem.mountPoint, 500)).toBe(false);
		const next = stack.use(await startAgent(folders));
		expect(await writable()).toBe(true);
		const again = stack.use(await connectAsker(next));
		expect((await again.client.call("job.report", { jobId })).report).toMatchObject({ error: { code: "interrupted" } });
		await poll(() => folders.readLog()).toMatch(/thawed what an earlier life left frozen/);
		expect(await thaw(fileSystem.mountPoint)).toBe(false);
	}, 60_000);

	test("the asker goes while frozen: writable at once, undone with asker-lost", async () => {
		const { agent, asker, jobId } = await hold();
		await asker[Symbol.asyncDispose]();
		expect(await isWritable(fileSystem.mountPoint, 1_500)).toBe(true);
		const other = stack.use(await connectAsker(agent));
		await poll(() => other.client.call("job.report", { jobId }).catch(() => undefined)).toMatchObject({
			report: { error: { code: "asker-lost" }, achieved: "none" },
		});
	}, 60_000);

	test("SIGTERM while frozen: thawed, recorded, exit 0", async () => {
		const { agent, jobId } = await hold();
		agent.child.kill("SIGTERM");
		expect(await isWritable(fileSystem.mountPoint, 1_500)).toBe(true);
		expect((await agent.exited).exitCode).toBe(0);
		const again = stack.use(await connectAsker(stack.use(await startAgent(folders))));
		expect((await again.client.call("job.report", { jobId })).report.error?.code).toBe("stopping");
	}, 60_000);

	test("an extension that a disk keeps from ending holds up neither the end of its job nor the next job", async () => {
		const other = stack.use(
			await makeLoopFileSystem({ dir: folders.root, fsType: "ext4", sizeMiB: 16, name: "unanswering" }),
		);
		const blocked = join(other.mountPoint, "file");
		const program = join(folders.packageFolder, "snapshot.mjs");
		const begin = `import { existsSync, writeFileSync as write } from "node:fs";\n`;
		const block = `if (existsSync("${blocked}")) write("${blocked}", "x");\n`;
		writeFileSync(program, `${begin}${block}${readFileSync(program, "utf8")}`);
		folders.writeConfig({ extensions: { installFrom: [folders.packageFolder] } });
		writeFileSync(blocked, "");
		const agent = stack.use(await startAgent(folders));
		const asker = stack.use(await connectAsker(agent));
		await freeze(other.mountPoint);
		stack.defer(async () => void (await thaw(other.mountPoint)));
		expect(await asker.order("good.blocked")).toMatchObject({ type: "accepted" });
		// A thread that waits for an ordinary read is blocked, too, but not for long.
		let pid = 0;
		await poll(async () => {
			const before = findBlockedThreads(processTree(agent.pid)).map(({ thread }) => thread);
			await sleep(500);
			pid = findBlockedThreads(processTree(agent.pid)).find(({ thread }) => before.includes(thread))?.pid ?? 0;
			return pid;
		}).toBeGreaterThan(0);
		await asker.cancel("good.blocked");
		const { report } = await asker.until("report", "good.blocked", 30_000);
		expect(report).toMatchObject({ achieved: "none", error: { code: "cancelled" } });
		// Nothing but the disk can end it.
		expect(findBlockedThreads([pid])).not.toEqual([]);
		await asker.order("never-attaches.next");
		await poll(async () => (await asker.client.call("agent.status", {})).job?.jobId).toBe("never-attaches.next");
		await thaw(other.mountPoint);
		await poll(() => findBlockedThreads([pid])).toEqual([]);
		await asker.cancel("never-attaches.next");
		await asker.until("report", "never-attaches.next", 30_000);
	}, 60_000);
});
