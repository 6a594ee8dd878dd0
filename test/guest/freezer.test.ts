import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type FreezerEvent, type FreezeTarget, ledgerSchema } from "../../contracts/freezer-protocol.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { loadFreezeCalls } from "../../platform/linux/freeze-calls.ts";
import { type Freezer, startFreezer, threadsFor } from "../../platform/linux/freezer/freezer-client.ts";
import { restoreExpedited } from "../../platform/linux/rcu-expedited.ts";
import { openTargets, rescueThaw, thawFromLedgers } from "../../platform/linux/rescue-thaw.ts";
import {
	freeze,
	type LoopFileSystem,
	makeLoopFileSystem,
	requireTools,
	startGuard,
	thaw,
} from "../fixtures/loop-file-system.ts";
import { targetsOf } from "../fixtures/planned-targets.ts";
import { isWritable } from "../fixtures/writable.ts";

const lacking = requireTools("root", "mkfs.ext4", "fsfreeze", "losetup");
const freezerEntry = new URL("../../extensions/vm-snapshot-linux/freezer.ts", import.meta.url).pathname;
const blockingEntry = new URL("../fixtures/blocking-freezer.ts", import.meta.url).pathname;
const limits = { holdLimitMs: 20_000, freezeLimitMs: 10_000, expedited: true };

describe.skipIf(lacking)(`the freezer${lacking ? ` (${lacking})` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let dir: string;
	let runDir: string;
	let made = 0;
	const events: FreezerEvent[] = [];

	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		dir = await mkdtemp("/var/lib/stillpoint-test-freezer-");
		runDir = await mkdtemp("/dev/shm/stillpoint-test-freezer-");
		await mkdir(join(runDir, "freezes"));
		stack.defer(() => rm(dir, { recursive: true, force: true }));
		stack.defer(() => rm(runDir, { recursive: true, force: true }));
		// A freezer that is killed in the instant of its freeze leaves it on, for whoever has its run folder.
		stack.defer(() => void restoreExpedited(join(runDir, "freezes")));
		stack.use(startGuard({ dir, limitMs: 90_000 }));
		events.length = 0;
	});
	afterEach(() => stack.disposeAsync());

	async function fileSystem(fsType: "ext4" | "xfs" | "btrfs" = "ext4", inDir = dir): Promise<LoopFileSystem> {
		made += 1;
		const sizeMiB = fsType === "xfs" ? 320 : fsType === "btrfs" ? 128 : 16;
		return stack.use(await makeLoopFileSystem({ dir: inDir, fsType, sizeMiB, name: `fs${made}` }));
	}

	function start(fileSystems: number): Freezer {
		const freezer = startFreezer({
			threads: threadsFor(fileSystems),
			runDir,
			onEvent: (event) => events.push(event),
			signal: new AbortController().signal,
		});
		stack.defer(async () => {
			freezer.kill("SIGTERM");
			await freezer.exited;
		});
		return freezer;
	}

	async function prepared(targets: readonly FreezeTarget[]): Promise<Freezer> {
		const freezer = start(targets.length);
		await freezer.prepare({ jobId: "job-1", bootId: await readBootId(), targets, limitMs: 10_000 });
		return freezer;
	}

	function readLedger() {
		return ledgerSchema.parse(JSON.parse(readFileSync(join(runDir, "freezes", "job-1.json"), "utf8")));
	}

	it.each(["ext4", "xfs", "btrfs"] as const)(
		"holds %s still until it is asked to thaw, and proves it",
		async (fsType) => {
			if (requireTools(`mkfs.${fsType}`)) return expect(fsType).not.toBe("ext4");
			const one = await fileSystem(fsType);
			const targets = await targetsOf([one]);
			const freezer = await prepared(targets);
			expect(await isWritable(one.mountPoint)).toBe(true);
			await freezer.freeze(limits);
			expect(await isWritable(one.mountPoint, 300)).toBe(false);
			expect(readLedger().fileSystems.map(({ state }) => state)).toEqual(["frozen"]);
			const thawed = await freezer.thaw(5_000);
			expect(thawed.cause).toBe("asked");
			expect(thawed.fileSystems.map(({ result }) => result)).toEqual(["thawed"]);
			expect(await isWritable(one.mountPoint)).toBe(true);
			expect((await freezer.exited).status).toBe(0);
			expect(readdirSync(join(runDir, "freezes"))).toEqual([]);
		},
	);

	it("freezes nested file systems from the top and thaws them from the bottom", async () => {
		const lower = await fileSystem("ext4");
		const roomy = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 128, name: "roomy" }));
		const middle = stack.use(
			await makeLoopFileSystem({ dir: roomy.mountPoint, fsType: "ext4", sizeMiB: 64, name: "middle" }),
		);
		const top = stack.use(
			await makeLoopFileSystem({ dir: middle.mountPoint, fsType: "ext4", sizeMiB: 16, name: "top" }),
		);
		const targets = await targetsOf([lower, roomy, middle, top]);
		const levelOf = (mountPoint: string) => targets.find((target) => target.mountPoint === mountPoint)?.level;
		expect([top, middle, roomy].map(({ mountPoint }) => levelOf(mountPoint))).toEqual([0, 1, 2]);
		const freezer = await prepared(targets);
		await freezer.freeze(limits);
		const order = events.flatMap((event) => (event.type === "fileSystem" ? [event.superblock] : []));
		const superblockOf = (mountPoint: string) =>
			targets.find((target) => target.mountPoint === mountPoint)?.superblock ?? "";
		const nested = [top, middle, roomy].map(({ mountPoint }) => superblockOf(mountPoint));
		expect(order.filter((one) => nested.includes(one))).toEqual(nested);
		const { fileSystems } = await freezer.thaw(5_000);
		expect(fileSystems.every(({ result }) => result === "thawed")).toBe(true);
		const startOf = (superblock: string) => fileSystems.find((one) => one.superblock === superblock)?.startedAtMs ?? 0;
		const [topAt, middleAt, roomyAt] = nested.map(startOf) as [number, number, number];
		expect(roomyAt).toBeLessThan(middleAt);
		expect(middleAt).toBeLessThan(topAt);
	});

	it("a foreign freeze is left alone and named, and what it froze itself is thawed", async () => {
		const [ours, theirs] = [await fileSystem(), await fileSystem()];
		const targets = await targetsOf([ours, theirs]);
		const freezer = await prepared(targets);
		await freeze(theirs.mountPoint);
		await expect(freezer.freeze(limits)).rejects.toMatchObject({ code: "foreign-freeze" });
		const thawed = await freezer.thawed;
		expect(thawed.cause).toBe("failed");
		const resultOf = (one: LoopFileSystem) =>
			thawed.fileSystems.find(
				({ superblock }) => superblock === targets.find((t) => t.mountPoint === one.mountPoint)?.superblock,
			)?.result;
		expect(resultOf(theirs)).toBe("foreign");
		expect(resultOf(ours)).toBe("thawed");
		expect(await isWritable(ours.mountPoint)).toBe(true);
		expect(await thaw(theirs.mountPoint)).toBe(true);
	});

	it("thaws by its own deadline", async () => {
		const one = await fileSystem();
		const freezer = await prepared(await targetsOf([one]));
		await freezer.freeze({ holdLimitMs: 400, freezeLimitMs: 400, expedited: true });
		expect((await freezer.thawed).cause).toBe("deadline");
		expect(await isWritable(one.mountPoint)).toBe(true);
	});

	it.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)("thaws on %s", async (signal) => {
		const one = await fileSystem();
		const freezer = await prepared(await targetsOf([one]));
		await freezer.freeze(limits);
		process.kill(freezer.identity.pid, signal);
		expect((await freezer.thawed).cause).toBe("signal");
		expect((await freezer.exited).status).toBe(0);
		expect(await isWritable(one.mountPoint)).toBe(true);
	});

	it("tells of a file system that somebody else thawed", async () => {
		const one = await fileSystem();
		const freezer = await prepared(await targetsOf([one]));
		await freezer.freeze(limits);
		expect(await thaw(one.mountPoint)).toBe(true);
		expect((await freezer.thaw(5_000)).fileSystems.map(({ result }) => result)).toEqual(["not-frozen"]);
	});

	it("refuses a target whose path leads elsewhere by now", async () => {
		const one = await fileSystem();
		const [target] = await targetsOf([one]);
		const freezer = start(1);
		const targets = [{ ...(target as FreezeTarget), ino: "999" }];
		const prepare = freezer.prepare({ jobId: "job-1", bootId: await readBootId(), targets, limitMs: 10_000 });
		await expect(prepare).rejects.toMatchObject({ code: "freeze-failed" });
		expect((await freezer.exited).status).toBe(0);
	});

	describe("when its parent is not what it should be", () => {
		/** The freezer with a parent of the test's making. */
		async function raw(
			targets: readonly FreezeTarget[],
		): Promise<ChildProcess & { stdin: NonNullable<ChildProcess["stdin"]> }> {
			const child = spawn(process.execPath, [freezerEntry], { env: { UV_THREADPOOL_SIZE: "8" }, cwd: "/" });
			stack.defer(async () => {
				child.stdin.destroy();
				if (child.exitCode === null) await new Promise((resolve) => child.on("exit", resolve));
			});
			child.stdin.on("error", () => undefined);
			child.stdin.write(await orders(targets));
			return child;
		}

		async function orders(targets: readonly FreezeTarget[]): Promise<string> {
			const command = {
				type: "targets",
				jobId: "job-1",
				bootId: await readBootId(),
				ledgerPath: join(runDir, "freezes", "job-1.json"),
				targets,
			};
			return `${JSON.stringify(command)}\n${JSON.stringify({ type: "freeze", ...limits })}\n`;
		}

		async function untilFrozen(targets: readonly FreezeTarget[]): Promise<void> {
			for (let turn = 0; turn < 2_000; turn += 1) {
				const path = join(runDir, "freezes", "job-1.json");
				if (
					existsSync(path) &&
					readLedger().fileSystems.filter(({ state }) => state === "frozen").length === targets.length
				)
					return;
				await sleep(10);
			}
			throw new Error("never frozen");
		}

		it.each([
			["closes the pipe", ""],
			["sends what is no JSON", "freeze!\n"],
			["sends an unknown command", '{"type":"melt"}\n'],
			["freezes twice", `${JSON.stringify({ type: "freeze", ...limits })}\n`],
			["sends a field of the wrong type", '{"type":"freeze","holdLimitMs":"long","freezeLimitMs":1}\n'],
			["sends a line without end", "x".repeat(6 * 1024 * 1024)],
			["closes in the middle of a line", '{"type":"th'],
		])("it thaws when the parent %s", async (_what, bytes) => {
			const one = await fileSystem();
			const targets = await targetsOf([one]);
			const child = await raw(targets);
			await untilFrozen(targets);
			child.stdin.write(bytes);
			if (!bytes.endsWith("\n")) child.stdin.end();
			const status = await new Promise((resolve) => child.on("exit", resolve));
			expect(status).toBe(0);
			expect(await isWritable(one.mountPoint)).toBe(true);
		});

		/** A freezer whose stdout is full, and whose reader keeps it open and reads nothing until it is let go. */
		async function withFullStdout(entry: string, targets: readonly FreezeTarget[]) {
			const keeper = join(dir, "keeper");
			const script = `{ head -c 2000000 /dev/zero >&4 & sleep 0.3; exec "$0" "$1" <&5 >&4; } 4> >(echo $BASHPID > "$2"; exec sleep 60) 5<&0`;
			const child = spawn("bash", ["--norc", "-c", script, process.execPath, entry, keeper], {
				env: { UV_THREADPOOL_SIZE: "8", PATH: "/usr/bin:/bin" },
				cwd: "/",
				stdio: ["pipe", "ignore", "ignore"],
			});
			const exited = new Promise<number | null>((resolve) => child.on("exit", resolve));
			const letGo = (): void => void process.kill(Number(readFileSync(keeper, "utf8")), "SIGTERM");
			stack.defer(async () => {
				child.stdin.destroy();
				await exited;
			});
			child.stdin.on("error", () => undefined);
			child.stdin.write(await orders(targets));
			return { child, exited, letGo };
		}

		it("thaws though nobody reads its stdout, which is full", async () => {
			const one = await fileSystem();
			const targets = await targetsOf([one]);
			const { child, exited, letGo } = await withFullStdout(freezerEntry, targets);
			await untilFrozen(targets);
			child.stdin.write('{"type":"thaw"}\n');
			expect(await isWritable(one.mountPoint)).toBe(true);
			expect(await exited).toBe(0);
			letGo();
		});

		it("(control: one that writes to its stdout synchronously is held up by that)", async () => {
			const one = await fileSystem();
			const { child, exited, letGo } = await withFullStdout(blockingEntry, await targetsOf([one]));
			const ledger = join(runDir, "freezes", "job-1.json");
			for (let turn = 0; turn < 1_000 && !existsSync(ledger); turn += 1) await sleep(10);
			child.stdin.end('{"type":"thaw"}\n');
			await sleep(1_000);
			expect(existsSync(ledger)).toBe(true);
			letGo();
			await exited;
			expect(await isWritable(one.mountPoint)).toBe(true);
		});
	});

	describe("when the freezer itself is lost", () => {
		it("what a killed freezer left frozen is thawed with folders held from before", async () => {
			const [a, b] = [await fileSystem(), await fileSystem()];
			const targets = await targetsOf([a, b]);
			using held = await openTargets(targets);
			expect(held.faults).toEqual([]);
			const freezer = await prepared(targets);
			await freezer.freeze(limits);
			freezer.kill("SIGKILL");
			await freezer.exited;
			expect(await isWritable(a.mountPoint, 300)).toBe(false);
			const results = await rescueThaw(held.folders, { until: freezer.exited, signal: AbortSignal.timeout(5_000) });
			expect(results.map(({ result }) => result)).toEqual(["thawed", "thawed"]);
			expect(await isWritable(a.mountPoint)).toBe(true);
			expect(await isWritable(b.mountPoint)).toBe(true);
			await expect(freezer.thawed).rejects.toMatchObject({ code: "freezer-died" });
		});

		it("what a stopped freezer holds is thawed by another holder of the deadline", async () => {
			const one = await fileSystem();
			const targets = await targetsOf([one]);
			using held = await openTargets(targets);
			const freezer = await prepared(targets);
			await freezer.freeze({ holdLimitMs: 300, freezeLimitMs: 300, expedited: true });
			process.kill(freezer.identity.pid, "SIGSTOP");
			await sleep(500);
			expect(await isWritable(one.mountPoint, 300)).toBe(false);
			freezer.kill("SIGKILL");
			const results = await rescueThaw(held.folders, { until: freezer.exited, signal: AbortSignal.timeout(5_000) });
			expect(results.map(({ result }) => result)).toEqual(["thawed"]);
			expect(await isWritable(one.mountPoint)).toBe(true);
		});

		it("killed at any instant, under writers, it leaves nothing frozen", async () => {
			const lower = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 96, name: "lower" }));
			const upper = stack.use(
				await makeLoopFileSystem({ dir: lower.mountPoint, fsType: "ext4", sizeMiB: 48, name: "upper" }),
			);
			const list = [lower, upper, await fileSystem()];
			const writers = list.map(({ mountPoint }) => startWriter(mountPoint));
			const endWriters = (): void => {
				for (const { pid, exitCode, signalCode } of writers)
					if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, "SIGKILL");
			};
			stack.defer(endWriters);
			const targets = await targetsOf(list);
			for (const afterMs of [0, 2, 5, 10, 25, 50, 100, 200]) {
				using held = await openTargets(targets);
				const freezer = await prepared(targets);
				const freezing = freezer.freeze(limits).catch(() => undefined);
				await sleep(afterMs);
				freezer.kill("SIGKILL");
				await rescueThaw(held.folders, { until: freezer.exited, signal: AbortSignal.timeout(20_000), parallel: 3 });
				await freezing;
				for (const { mountPoint } of list) expect(await isWritable(mountPoint, 10_000), `${afterMs} ms`).toBe(true);
			}
			endWriters();
		});

		it("a nested pair is rescued from the bottom, with one thread only", async () => {
			const lower = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 128, name: "lower" }));
			const upper = stack.use(
				await makeLoopFileSystem({ dir: lower.mountPoint, fsType: "ext4", sizeMiB: 16, name: "upper" }),
			);
			const targets = await targetsOf([lower, upper]);
			using held = await openTargets(targets);
			const freezer = await prepared(targets);
			await freezer.freeze(limits);
			freezer.kill("SIGKILL");
			const results = await rescueThaw(held.folders, {
				until: freezer.exited,
				signal: AbortSignal.timeout(5_000),
				parallel: 1,
			});
			expect(results.map(({ result }) => result)).toEqual(["thawed", "thawed"]);
		});

		it("its ledger is enough to thaw, and is gone afterwards", async () => {
			const one = await fileSystem();
			const freezer = await prepared(await targetsOf([one]));
			await freezer.freeze(limits);
			freezer.kill("SIGKILL");
			await freezer.exited;
			const results = await thawFromLedgers(runDir);
			expect(results).toMatchObject([{ mountPoint: one.mountPoint, result: "thawed", jobId: "job-1" }]);
			expect(await isWritable(one.mountPoint)).toBe(true);
			expect(await thawFromLedgers(runDir)).toEqual([]);
		});

		it("a freezer that still runs is asked, and one that is stopped is ended", async () => {
			const one = await fileSystem();
			const targets = await targetsOf([one]);
			for (const stopped of [false, true]) {
				const freezer = await prepared(targets);
				await freezer.freeze(limits);
				if (stopped) process.kill(freezer.identity.pid, "SIGSTOP");
				await thawFromLedgers(runDir, { askLimitMs: 500 });
				expect(await isWritable(one.mountPoint)).toBe(true);
				expect((await freezer.exited).signal).toBe(stopped ? "SIGKILL" : null);
			}
		});

		it("thaws by ledger what is hidden under another mount, as long as the freezer lives", async () => {
			const one = await fileSystem();
			const cover = await fileSystem();
			const freezer = await prepared(await targetsOf([one]));
			await freezer.freeze(limits);
			await execa("mount", ["--bind", cover.mountPoint, one.mountPoint]);
			process.kill(freezer.identity.pid, "SIGSTOP");
			const results = await thawFromLedgers(runDir, { askLimitMs: 200 });
			await execa("umount", [one.mountPoint]);
			expect(results.map(({ result }) => result)).toEqual(["thawed"]);
			expect(await isWritable(one.mountPoint)).toBe(true);
		});

		it("a ledger of another boot, of a foreign freeze, or torn, thaws nothing", async () => {
			const one = await fileSystem();
			const freezer = await prepared(await targetsOf([one]));
			await freezer.freeze(limits);
			const text = readFileSync(join(runDir, "freezes", "job-1.json"), "utf8");
			await freezer.thaw(5_000);
			await freezer.exited;
			await freeze(one.mountPoint);
			const path = join(runDir, "freezes", "job-1.json");
			for (const wrong of [
				text.replace(await readBootId(), "another-boot"),
				text.replace(/"state":"(frozen|freezing)"/, '"state":"foreign"'),
				text.slice(0, -20),
			]) {
				await writeFile(path, wrong);
				await thawFromLedgers(runDir);
				expect(await isWritable(one.mountPoint, 200)).toBe(false);
			}
			await writeFile(path, text);
			expect(await thawFromLedgers(runDir)).toMatchObject([{ result: "thawed" }]);
		});
	});

	describe("with a FIFREEZE that the kernel does not finish", () => {
		/** One big write in flight: FIFREEZE waits for it. */
		function bigWrite(folder: string, mebibytes: number): ChildProcess {
			return spawn("dd", ["if=/dev/zero", `of=${join(folder, "big")}`, `bs=${mebibytes}M`, "count=1", "status=none"], {
				stdio: "ignore",
			});
		}

		it("thaws the others at once, and the late one when the kernel lets go", async () => {
			const quick = await fileSystem();
			const upper = await fileSystem();
			// Frozen by somebody else below the upper one: its FIFREEZE hangs until that is thawed.
			const lower = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 128, name: "lower" }));
			const slow = stack.use(
				await makeLoopFileSystem({ dir: lower.mountPoint, fsType: "ext4", sizeMiB: 32, name: "slow" }),
			);
			const targets = await targetsOf([quick, upper, slow]);
			const freezer = await prepared(targets);
			const writer = bigWrite(slow.mountPoint, 4);
			await new Promise((resolve) => writer.on("exit", resolve));
			await freeze(lower.mountPoint);
			await expect(freezer.freeze({ holdLimitMs: 10_000, freezeLimitMs: 500, expedited: true })).rejects.toMatchObject({
				code: "freeze-late",
			});
			await sleep(300);
			expect(await isWritable(quick.mountPoint, 500)).toBe(true);
			expect(await isWritable(upper.mountPoint, 500)).toBe(true);
			expect(events.some((event) => event.type === "thawed")).toBe(false);
			expect(readLedger().fileSystems.filter(({ state }) => state === "freezing")).toHaveLength(1);
			await thaw(lower.mountPoint);
			const thawed = await freezer.thawed;
			expect(thawed.fileSystems.every(({ result }) => result === "thawed")).toBe(true);
			expect(await isWritable(slow.mountPoint)).toBe(true);
			expect((await freezer.exited).status).toBe(0);
		});

		it("a freezer killed in the middle of it is rescued until it is reaped", async () => {
			const lower = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 128, name: "lower" }));
			const slow = stack.use(
				await makeLoopFileSystem({ dir: lower.mountPoint, fsType: "ext4", sizeMiB: 32, name: "slow" }),
			);
			const targets = await targetsOf([slow]);
			using held = await openTargets(targets);
			const freezer = await prepared(targets);
			await freeze(lower.mountPoint);
			const freezing = freezer
				.freeze({ holdLimitMs: 10_000, freezeLimitMs: 5_000, expedited: true })
				.catch(() => undefined);
			await sleep(300);
			freezer.kill("SIGKILL");
			let reaped = false;
			const exited = freezer.exited.then(() => {
				reaped = true;
			});
			const results = rescueThaw(held.folders, { until: exited, signal: AbortSignal.timeout(10_000) });
			await sleep(300);
			expect(reaped).toBe(false);
			await thaw(lower.mountPoint);
			expect((await results).map(({ superblock }) => superblock)).toEqual(targets.map(({ superblock }) => superblock));
			await freezing;
			await freezer.exited;
			expect(await isWritable(slow.mountPoint)).toBe(true);
		});
	});

	it("a probe tells frozen from not frozen, and changes neither", async () => {
		const one = await fileSystem();
		using held = await openTargets(await targetsOf([one]));
		const fd = held.folders[0]?.fd ?? -1;
		const calls = await loadFreezeCalls();
		expect(await calls.probeFrozen(fd)).toBe("not-frozen");
		await freeze(one.mountPoint);
		expect(await calls.probeFrozen(fd)).toBe("frozen");
		expect(await calls.probeFrozen(fd)).toBe("frozen");
		expect(await calls.thaw(fd)).toBeUndefined();
		expect(await calls.thaw(fd)).toBe("EINVAL");
		expect(await isWritable(one.mountPoint)).toBe(true);
	});
});

/** Writes without an end, in a process group of its own. */
function startWriter(folder: string): ChildProcess {
	const program = 'while :; do dd if=/dev/zero of="$1/stream" bs=256k count=16 conv=fsync 2>/dev/null; done';
	return spawn("sh", ["-c", program, "sh", folder], { stdio: "ignore", cwd: "/", detached: true });
}
