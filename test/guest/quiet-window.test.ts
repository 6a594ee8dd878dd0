/**
 * "No disk write while frozen", proved on the bundled programs with their state, log, program and even their Node on
 * the file system that is frozen: a write would not only be seen, it would hang.
 */
import { spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectLocalAgent } from "../../command-line/local-agent.ts";
import { orderSchema } from "../../contracts/order.ts";
import type { Report } from "../../contracts/report.ts";
import { bundle } from "../../demo/scratch-folders.ts";
import { type LoopFileSystem, makeLoopFileSystem, requireTools, startGuard } from "../fixtures/loop-file-system.ts";
import { type BlockedThread, findBlockedThreads, processTree } from "../fixtures/process-states.ts";
import { findWindow, findWrites, parseTrace } from "../fixtures/system-call-trace.ts";

const missing = requireTools("root", "mkfs.ext4", "strace");
const holdMs = 1_500;

describe.skipIf(missing)(`the agent whose own folders are frozen${missing ? `: ${missing}` : ""}`, () => {
	const undo = new AsyncDisposableStack();
	const signal = AbortSignal.timeout(110_000);
	let fileSystem: LoopFileSystem;
	let base: string;

	beforeAll(async () => {
		base = await mkdtemp("/var/lib/stillpoint-test-quiet-");
		undo.defer(() => rm(base, { recursive: true, force: true }));
		undo.use(startGuard({ dir: base, limitMs: 120_000 }));
		fileSystem = undo.use(await makeLoopFileSystem({ dir: base, fsType: "ext4", sizeMiB: 512, name: "machine" }));
		const { mountPoint } = fileSystem;
		await bundle(join(mountPoint, "program"), signal);
		await copyFile(process.execPath, join(mountPoint, "node"));
		await mkdir(join(mountPoint, "scripts.d"));
		const config = {
			version: 1,
			scriptsFolder: join(mountPoint, "scripts.d"),
			extensions: { installFrom: [join(mountPoint, "program/extensions/VMSnapshotLinux")] },
			fileSystems: { include: [{ mountPoint }] },
		};
		await writeFile(join(mountPoint, "agent.json"), JSON.stringify(config), { mode: 0o600 });
	});
	afterAll(() => undo.disposeAsync());

	/** Holds for a while, asks the agent things meanwhile, and samples its whole process tree. */
	async function holdAndLook(prefix: readonly string[]) {
		await using ending = new AsyncDisposableStack();
		const runFolder = await mkdtemp("/dev/shm/stillpoint-test-quiet-");
		ending.defer(() => rm(runFolder, { recursive: true, force: true }));
		const { mountPoint } = fileSystem;
		const words = ["--config", "agent.json", "--state-dir", "state", "--log-dir", "log"].map((word) =>
			word.startsWith("--") ? word : join(mountPoint, word),
		);
		const program = [join(mountPoint, "node"), join(mountPoint, "program/stillpoint.mjs"), "agent", "run"];
		const [file = "", ...rest] = [...prefix, ...program, ...words, "--run-dir", runFolder, "--json"];
		const child = spawn(file, rest, { stdio: ["ignore", "pipe", "inherit"] });
		ending.defer(async () => {
			const ended = new Promise((resolve) => child.once("exit", resolve));
			const agentPid = processTree(child.pid ?? 0).at(prefix.length > 0 ? 1 : 0);
			if (agentPid !== undefined) process.kill(agentPid, "SIGTERM");
			await ended;
		});
		await new Promise((resolve) => child.stdout.once("data", resolve));
		const order = orderSchema.parse({
			jobId: `quiet-${process.hrtime.bigint()}`,
			level: "file-system",
			acceptLevel: "file-system",
			disks: { include: [fileSystem.device.replace("/dev/", "")] },
			snapshot: "unknown",
		});
		const { jobId } = order;
		const blocked: BlockedThread[] = [];
		const tree: { pids: number[]; samples: number } = { pids: [], samples: 0 };
		const reported = Promise.withResolvers<Report>();
		const frozen = Promise.withResolvers<void>();
		await using client = await connectLocalAgent(runFolder, signal, {
			onNotification: (_name, params) => {
				const event = params as { type: string; report?: Report };
				if (event.type === "prepared")
					void client.call("job.command", { command: { type: "freeze", jobId } }, { limitMs: 5_000 });
				if (event.type === "frozen") frozen.resolve();
				if (event.type === "report" && event.report) reported.resolve(event.report);
			},
		});
		await client.call("job.order", { order }, { limitMs: 10_000 });
		await Promise.race([frozen.promise, reported.promise]);
		// The controls write where the agent must not: they hang until the thaw.
		const control = spawn("dd", ["if=/dev/zero", `of=${join(mountPoint, "control")}`, "bs=1", "count=1"], {
			stdio: "ignore",
		});
		await sleep(100);
		const controlBlocked = findBlockedThreads([control.pid ?? 0]).length;
		const until = performance.now() + holdMs;
		while (performance.now() < until) {
			tree.pids = processTree(child.pid ?? 0);
			blocked.push(...findBlockedThreads(tree.pids));
			tree.samples += 1;
			if (tree.samples % 20 === 1) {
				await client.call("agent.status", {}, { limitMs: 1_000 });
				await client.call("job.list", {}, { limitMs: 1_000 });
			}
			await sleep(5);
		}
		await client.call("job.command", { command: { type: "release", jobId } }, { limitMs: 5_000 });
		const report = await reported.promise;
		await sleep(300);
		return { report, blocked, tree, controlBlocked };
	}

	test("no thread of agent, extension and freezer waits for the frozen disk, and it answers from memory", async () => {
		const { report, blocked, tree, controlBlocked } = await holdAndLook([]);
		expect(report.error).toBeUndefined();
		expect(report.held).toBe("file-system");
		expect(report.window?.heldMs).toBeGreaterThan(holdMs);
		expect(tree.pids.length).toBeGreaterThanOrEqual(3);
		expect(tree.samples).toBeGreaterThan(50);
		expect(controlBlocked).toBe(1);
		expect(blocked).toEqual([]);
	});

	test("a trace of the whole tree shows no call that could write to the frozen file system", async () => {
		const output = join(base, "trace");
		const { report } = await holdAndLook(["strace", "-f", "-y", "-ttt", "-s", "0", "-o", output]);
		expect(report.error).toBeUndefined();
		const calls = parseTrace(await readFile(output, "utf8"));
		const window = findWindow(calls);
		expect(window).toBeDefined();
		if (window === undefined) return;
		expect(findWrites(calls, fileSystem.mountPoint, window)).toEqual([]);
		// The control: the same look finds the log and the journal, which are written after the thaw.
		const after = { from: window.until, until: Number.POSITIVE_INFINITY };
		expect(findWrites(calls, fileSystem.mountPoint, after).length).toBeGreaterThan(0);
		await execa("sync", ["-f", fileSystem.mountPoint]);
		const log = await readFile(join(fileSystem.mountPoint, "log/agent.log"), "utf8");
		expect(log).toContain(report.jobId);
	});
});
