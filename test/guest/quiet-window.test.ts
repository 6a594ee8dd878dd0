/**
 * "No disk write while frozen", proved on the bundled programs with their state, log, program and even their Node on
 * the file system that is frozen: a write would not only be seen, it would hang.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectLocalAgent } from "../../command-line/local-agent.ts";
import type { Level } from "../../contracts/level.ts";
import { orderSchema } from "../../contracts/order.ts";
import type { Report } from "../../contracts/report.ts";
import { bundle } from "../../demo/scratch-folders.ts";
import { type LoopFileSystem, makeLoopFileSystem, requireTools, startGuard } from "../fixtures/loop-file-system.ts";
import { type BlockedThread, findBlockedThreads, processTree } from "../fixtures/process-states.ts";
import { findWindow, findWrites, parseTrace } from "../fixtures/system-call-trace.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "strace");
const holdMs = 1_500;

describe.each(["ext4", "xfs"] as const)("%s", (fsType) => {
	const lacking = missing ?? requireTools(`mkfs.${fsType}`);

	describe.skipIf(lacking)(`the agent whose own folders are frozen${lacking ? `: ${lacking}` : ""}`, () => {
		const undo = new AsyncDisposableStack();
		let signal: AbortSignal;
		let fileSystem: LoopFileSystem;
		let base: string;
		let program: string[];

		beforeAll(async () => {
			signal = AbortSignal.timeout(240_000);
			base = await mkdtemp("/var/lib/stillpoint-test-quiet-");
			undo.defer(() => rm(base, { recursive: true, force: true }));
			undo.use(startGuard({ dir: base, limitMs: 250_000 }));
			fileSystem = undo.use(await makeLoopFileSystem({ dir: base, fsType, sizeMiB: 512, name: "machine" }));
			const { mountPoint } = fileSystem;
			await bundle(join(mountPoint, "program"), signal);
			await copyFile(process.execPath, join(mountPoint, "node"));
			program = [join(mountPoint, "node"), join(mountPoint, "program/stillpoint.mjs")];
			const database = join(mountPoint, "shop.sqlite");
			using shop = new DatabaseSync(database);
			shop.exec(
				"PRAGMA journal_mode = WAL; CREATE TABLE sale (id INTEGER PRIMARY KEY); INSERT INTO sale DEFAULT VALUES",
			);
			await mkdir(join(mountPoint, "scripts.d"));
			const command = [join(mountPoint, "program/scripts/sqlite/sqlite-hold.mjs"), database];
			const dropIn = { version: 1, application: "shop", session: { command } };
			await writeFile(join(mountPoint, "scripts.d/shop.json"), JSON.stringify(dropIn));
			const config = {
				version: 1,
				scriptsFolder: join(mountPoint, "scripts.d"),
				extensions: { installFrom: [join(mountPoint, "program/extensions/VMSnapshotLinux")] },
				fileSystems: { include: [{ mountPoint }] },
			};
			await writeFile(join(mountPoint, "agent.json"), JSON.stringify(config), { mode: 0o600 });
		});
		afterAll(() => undo.disposeAsync());

		function startWriter() {
			const words = ["if=/dev/zero", `of=${fileSystem.mountPoint}/control`, "bs=1", "count=1"];
			return spawn("dd", words, { stdio: "ignore" });
		}

		/** An agent with a job that is frozen. What is started is on `ending`. */
		async function holdFrozen(ending: AsyncDisposableStack, level: Level, prefix: readonly string[] = []) {
			const runFolder = await mkdtemp("/dev/shm/stillpoint-test-quiet-");
			ending.defer(() => rm(runFolder, { recursive: true, force: true }));
			const words = ["--config", "agent.json", "--state-dir", "state", "--log-dir", "log"].map((word) =>
				word.startsWith("--") ? word : join(fileSystem.mountPoint, word),
			);
			const [file = "", ...rest] = [...prefix, ...program, "agent", "run", ...words, "--run-dir", runFolder, "--json"];
			const child = spawn(file, rest, { stdio: ["ignore", "pipe", "inherit"] });
			const ended = once(child, "exit");
			ending.defer(async () => {
				const agentPid = processTree(child.pid ?? 0).at(prefix.length > 0 ? 1 : 0);
				if (agentPid !== undefined && child.exitCode === null && child.signalCode === null)
					process.kill(agentPid, "SIGTERM");
				await ended;
			});
			await once(child.stdout, "data");
			const order = orderSchema.parse({
				jobId: `quiet-${process.hrtime.bigint()}`,
				level,
				acceptLevel: "file-system",
				disks: { include: [basename(fileSystem.device)] },
				snapshot: "unknown",
			});
			const { jobId } = order;
			const reported = Promise.withResolvers<Report>();
			const frozen = Promise.withResolvers<void>();
			const client = ending.use(
				await connectLocalAgent(runFolder, signal, {
					onNotification: (_name, params) => {
						const event = params as { type: string; report?: Report };
						if (event.type === "prepared")
							void client.call("job.command", { command: { type: "freeze", jobId } }, { limitMs: 5_000 });
						if (event.type === "frozen") frozen.resolve();
						if (event.type === "report" && event.report) reported.resolve(event.report);
					},
				}),
			);
			await client.call("job.order", { order }, { limitMs: 10_000 });
			await Promise.race([frozen.promise, reported.promise]);
			return { child, ended, runFolder, jobId, client, report: reported.promise };
		}

		/** Holds for a while, asks the agent things meanwhile, and samples its whole process tree. */
		async function holdAndLook(prefix: readonly string[]) {
			await using ending = new AsyncDisposableStack();
			const { child, jobId, client, report } = await holdFrozen(ending, "application", prefix);
			const blocked: BlockedThread[] = [];
			const tree: { pids: number[]; samples: number } = { pids: [], samples: 0 };
			// The control writes where the agent must not: it hangs until the thaw.
			const control = startWriter();
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
			await report;
			await sleep(300);
			return { report: await report, blocked, tree, controlBlocked };
		}

		test("no thread of agent, extension, freezer and SQLite's session waits for it, and it answers from memory", async () => {
			const { report, blocked, tree, controlBlocked } = await holdAndLook([]);
			expect(report.error).toBeUndefined();
			expect(report).toMatchObject({ held: "application", because: [] });
			expect(report.scripts).toMatchObject([{ name: "shop", phase: "session", held: true }]);
			expect(report.window?.heldMs).toBeGreaterThan(holdMs);
			expect(tree.pids.length).toBeGreaterThanOrEqual(4);
			expect(tree.samples).toBeGreaterThan(20);
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

		test("thaw, run from the frozen disk after all of ours were killed at once, waits for nothing on it", async () => {
			await using ending = new AsyncDisposableStack();
			const { child, ended, runFolder, jobId } = await holdFrozen(ending, "application");
			const all = processTree(child.pid ?? 0);
			expect(all.length).toBeGreaterThanOrEqual(4);
			for (const kind of ["SIGSTOP", "SIGKILL"] as const) for (const pid of all) process.kill(pid, kind);
			await ended;
			// The control: what is held up by the freeze is found. Nobody is left who could thaw.
			const control = startWriter();
			await sleep(400);
			expect(findBlockedThreads([control.pid ?? 0]).filter(isHeldUp)).toHaveLength(1);
			const [node = "", ...words] = [...program, "thaw", "--run-dir", runFolder, "--json"];
			const rescue = execa(node, words, { timeout: 10_000, killSignal: "SIGKILL", reject: false });
			const blocked: BlockedThread[] = [];
			let [over, samples] = [false, 0];
			const done = rescue.then((result) => {
				over = true;
				return result;
			});
			for (; !over; samples += 1) {
				blocked.push(...findBlockedThreads(processTree(rescue.pid ?? 0)).filter(isHeldUp));
				await sleep(2);
			}
			const { exitCode, stdout } = await done;
			expect(exitCode).toBe(0);
			expect(JSON.parse(stdout).fileSystems).toMatchObject([
				{ jobId, mountPoint: fileSystem.mountPoint, result: "thawed" },
			]);
			expect(samples).toBeGreaterThan(5);
			expect(blocked).toEqual([]);
			expect(await isWritable(fileSystem.mountPoint)).toBe(true);
		});
	});
});

/** Reading pages of the program waits for the disk, but no thaw; so does a FITHAW that writes the superblock. */
function isHeldUp({ where }: BlockedThread): boolean {
	const isThawAtWork = where.includes("thaw_super") && !where.includes("rwsem");
	return !isThawAtWork && /percpu_rwsem|sb_start|freeze|thaw/.test(where);
}
