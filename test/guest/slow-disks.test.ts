/** Jobs over a disk that answers late, or not at all: what can be let go is, and what can't is said. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { LocalChannelClient } from "../../platform/local-channel.ts";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../fixtures/agent-process.ts";
import { type LoopFileSystem, makeLoopFileSystem, startGuard } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { processTree } from "../fixtures/process-states.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { slowDown } from "../fixtures/slow-calls.ts";
import { lacksForSlowDisk, openSlowDisk, type SlowDisk } from "../fixtures/slow-disk.ts";
import { inPhase, isWritable, takeSnapshot } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";
import { makeSourceExtension } from "../fixtures/source-extension.ts";
import { isWritable as isDurablyWritable } from "../fixtures/writable.ts";

const missing = lacksForSlowDisk("ext4") ?? requireTools("strace");
const why = missing ? `: ${missing}` : "";
const entry = resolve(import.meta.dirname, "../../command-line/stillpoint.ts");

describe.skipIf(missing)(`a job over a slow disk${why}`, () => {
	const bench = useSnapshotBench();

	async function openSlow(): Promise<SlowDisk> {
		const disk = await openSlowDisk({ dir: bench.dir, fsType: "ext4", mode: "delay" });
		bench.defer(() => disk[Symbol.asyncDispose]());
		return disk;
	}

	test("is worth what it was asked for when the disk is slow throughout, and the limits allow it", async () => {
		const slow = await openSlow();
		await slow.makeSlow(80);
		const host = await bench.start([bench.one, slow]);
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		await host.event("frozen");
		const report = await takeSnapshot(host, [bench.one, slow]);
		expect(report).toMatchObject({ achieved: "file-system", because: [] });
		expect(report.error).toBeUndefined();
	});

	test("is worth what it was asked for when the freeze takes long, but not too long", async () => {
		const slow = await openSlow();
		const host = await bench.start([bench.one, slow], { holdLimitMs: 10_000 }, { quiet: false });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		await host.event("freezing");
		await slow.makeStuck();
		host.tell({ type: "quiet", jobId: host.jobId });
		await sleep(1_500);
		await slow.release();
		await host.event("frozen");
		const report = await takeSnapshot(host, [bench.one, slow]);
		expect(report).toMatchObject({ achieved: "file-system", because: [] });
		expect(report.window?.freezeMs).toBeGreaterThan(300);
	});

	test("reports while the disk is still stuck when it hung before the freeze, and nothing was frozen", async () => {
		const slow = await openSlow();
		const host = await bench.start([bench.one, slow]);
		await host.event("prepared");
		await slow.makeStuck();
		await once(spawn("sh", ["-c", '(echo x > "$1" &)', "sh", join(slow.mountPoint, "dirt")], { cwd: "/" }), "exit");
		host.tell({ type: "freeze", jobId: host.jobId });
		await inPhase(host, "scripts");
		// In the last sync, which can't be aborted either.
		await sleep(300);
		host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
		const { error, fileSystems } = await host.report();
		expect(error?.code).toBe("cancelled");
		expect(fileSystems.map(({ result }) => result)).toEqual(["pending", "pending"]);
		expect(await isDurablyWritable(slow.mountPoint, 300), "it is stuck").toBe(false);
		expect(await isWritable(bench.one)).toBe(true);
		await slow.release();
		expect(await host.exited).toBe(0);
	});

	test("keeps the proof of its hold when the disk is late with the thaw, and says meanwhile what waits", async () => {
		const slow = await openSlow();
		const host = await bench.start([bench.one, slow], { holdLimitMs: 30_000 });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		await host.event("frozen");
		await slow.makeStuck();
		const taking = takeSnapshot(host, [bench.one, slow]);
		expect((await host.event("stuck")).fileSystems).toEqual([slow.mountPoint]);
		expect(await isWritable(bench.one), "the others are let go at once").toBe(true);
		await slow.release();
		const report = await taking;
		expect(report).toMatchObject({ achieved: "file-system", because: [] });
		expect(report.fileSystems.map(({ result }) => result)).toEqual(["thawed", "thawed"]);
		expect(report.error).toBeUndefined();
	});

	test("lets the others go when the freeze takes too long, and the slow one when the disk has answered", async () => {
		const slow = await openSlow();
		const host = await bench.start([bench.one, slow], { holdLimitMs: 800 }, { quiet: false });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		await host.event("freezing");
		await slow.makeStuck();
		host.tell({ type: "quiet", jobId: host.jobId });
		const stuck = await host.event("stuck");
		expect(stuck.fileSystems).toEqual([slow.mountPoint]);
		expect(await isWritable(bench.one), "the others are let go at once").toBe(true);
		await slow.release();
		const report = await host.report();
		expect(report).toMatchObject({ error: { code: "freeze-late" }, achieved: "none" });
		expect(await isWritable(slow)).toBe(true);
		expect(await host.exited).toBe(0);
	});
});

describe.skipIf(missing)(`a job over a disk that is stuck${why}`, () => {
	const stack = new AsyncDisposableStack();
	let folders: AgentFoldersFixture;
	let agent: AgentProcess;
	let client: LocalChannelClient;
	let other: LoopFileSystem;
	let slow: SlowDisk;
	const go = () => join(folders.root, "go");
	const began = () => join(folders.root, "began");

	beforeAll(async () => {
		folders = stack.use(makeAgentFolders());
		const dir = folders.root;
		stack.use(startGuard({ dir, limitMs: 120_000 }));
		other = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 24, name: "other" }));
		slow = stack.use(await openSlowDisk({ dir, fsType: "ext4", mode: "stuck" }));
		const scriptsFolder = join(dir, "scripts.d");
		mkdirSync(scriptsFolder, { mode: 0o755 });
		const waiter = join(dir, "wait.sh");
		writeFileSync(waiter, `#!/bin/sh\ntouch ${began()}\nuntil [ -e ${go()} ]; do sleep 0.02; done\n`, { mode: 0o755 });
		writeFileSync(
			join(scriptsFolder, "10-wait.json"),
			JSON.stringify({ version: 1, application: "wait", order: 100, pre: { command: [waiter], deadlineMs: 20_000 } }),
		);
		folders.writeConfig({
			extensions: { installFrom: [makeSourceExtension(dir)] },
			fileSystems: { include: [{ mountPoint: other.mountPoint }, { mountPoint: slow.mountPoint }] },
			scriptsFolder,
			otherScripts: { azureFolder: join(dir, "azure"), qemuHookFolders: [], vmwareHookFolders: [] },
		});
		agent = await startAgent(folders);
		stack.defer(() => agent[Symbol.asyncDispose]());
		client = await agent.connect();
		stack.defer(() => client[Symbol.asyncDispose]());
	});
	afterAll(() => stack.disposeAsync());

	test("is stuck on every channel until the disk answers, and nothing else waits", async () => {
		const names = [other, slow].flatMap(({ device }) => ["--disk", basename(device)]);
		const words = ["snapshot", "--run-dir", folders.flags.runDir, ...names];
		const asker = execa(process.execPath, [entry, ...words, "--limit-ms", "1500", "--job-id", "stuck-1"], {
			reject: false,
			timeout: 60_000,
		});
		let said = "";
		asker.stderr?.on("data", (chunk: Buffer) => {
			said += chunk.toString();
		});
		await Promise.race([
			poll(() => existsSync(began())).toBe(true),
			asker.then(({ stderr }) => expect(stderr).toBe("")),
		]);
		await using undo = new AsyncDisposableStack();
		const freezer = processTree(agent.pid).find((pid) => commandOf(pid).includes("freezer")) as number;
		undo.use(await slowDown(freezer, { calls: ["ioctl"], delayMs: 700 }));
		writeFileSync(go(), "");
		const status = () => client.call("agent.status", {});
		await poll(async () => (await status()).job?.phase).toBe("freezing");
		undo.defer(() => slow.release());
		await slow.strike();
		await poll(async () => (await status()).job?.phase).toBe("stuck");
		await poll(async () => (await status()).frozen).toEqual([{ mountPoint: slow.mountPoint, state: "frozen" }]);
		expect(JSON.stringify((await status()).protection)).toContain("may-be-frozen");
		expect(await isDurablyWritable(other.mountPoint), "the others are let go at once").toBe(true);
		// The extension and, after its own deadline, the agent say it; both of the same file system.
		await poll(() => readFileSync(join(folders.flags.runDir, "window.log"), "utf8")).toContain("why=deadline");
		await sleep(1_500);
		expect((await status()).frozen).toEqual([{ mountPoint: slow.mountPoint, state: "frozen" }]);
		expect(said.split("\n").filter((line) => line.startsWith("stuck:"))).toHaveLength(1);
		expect(said).toContain(`stuck: ${slow.mountPoint} may still be frozen`);
		expect(said).not.toContain(other.mountPoint);
		expect(said).toContain("stillpoint thaw");
		const told = await execa(process.execPath, [entry, "status", "--run-dir", folders.flags.runDir], { reject: false });
		expect(told.exitCode).toBe(9);
		expect(told.stdout).toContain("stillpoint thaw");

		await slow.release();
		const { exitCode } = await asker;
		expect(exitCode).toBe(6);
		expect(await isWritable(slow)).toBe(true);
		const ended = await status();
		expect(ended.frozen).toEqual([]);
		expect(ended.lastJobs.find(({ jobId }) => jobId === "stuck-1")).toMatchObject({ phase: "failed" });
	}, 90_000);
});

function commandOf(pid: number): string {
	return existsSync(`/proc/${pid}/cmdline`) ? readFileSync(`/proc/${pid}/cmdline`, "utf8") : "";
}
