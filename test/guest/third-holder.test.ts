import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import winston from "winston";
import { makeThirdHolder } from "../../agent/third-holder.ts";
import { makeWriteHold } from "../../agent/write-hold.ts";
import type { FreezeResult, FreezeTarget } from "../../contracts/freezer-protocol.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { readMountTable } from "../../platform/linux/mount-table.ts";
import { findProcessIdentity, isSameProcessAlive } from "../../platform/linux/process-identity.ts";
import { freeze, type LoopFileSystem, makeLoopFileSystem, startGuard, thaw } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { findBlockedThreads } from "../fixtures/process-states.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze");

describe.skipIf(missing)(`the agent as the third holder${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let runDir: string;
	let fileSystem: LoopFileSystem;
	let target: FreezeTarget;

	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		const dir = mkdtempSync("/var/lib/stillpoint-test-holder-");
		stack.defer(() => rmSync(dir, { recursive: true, force: true }));
		runDir = mkdtempSync("/dev/shm/stillpoint-test-holder-");
		stack.defer(() => rmSync(runDir, { recursive: true, force: true }));
		mkdirSync(join(runDir, "freezes"));
		stack.use(startGuard({ dir, limitMs: 60_000 }));
		fileSystem = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 64, name: "data" }));
		const { mountPoint } = fileSystem;
		const mount = (await readMountTable()).find((one) => one.mountPoint === mountPoint);
		const { dev, ino } = statSync(mountPoint, { bigint: true });
		const superblock = mount?.superblock ?? "0:0";
		target = { superblock, mountPoint, openPath: mountPoint, fsType: "ext4", level: 0, dev: `${dev}`, ino: `${ino}` };
	});
	afterEach(() => stack.disposeAsync());

	/** A process that stands for the freezer; the kernel's freeze outlives it. */
	function freezerProcess() {
		const child = spawn("sleep", ["60"], { stdio: "ignore" });
		stack.defer(() => void child.kill("SIGKILL"));
		const pid = child.pid ?? 0;
		return { pid, identity: findProcessIdentity(pid) };
	}
	async function writeLedgerOf(state: FreezeResult, pid: number) {
		const freezer = findProcessIdentity(pid);
		const ledger = {
			schemaVersion: 1,
			jobId: "j",
			bootId: await readBootId(),
			freezer,
			fileSystems: [{ ...target, state, fd: 3 }],
		};
		writeFileSync(join(runDir, "freezes", "j.json"), JSON.stringify(ledger));
	}
	function makeHolder(told: string[]) {
		const hold = makeWriteHold();
		const log = winston.createLogger({ silent: true });
		log.warn = ((text: string, fields: { result?: string }) => {
			if (text === "rescue") told.push(`rescue ${fields.result}`);
			return log;
		}) as typeof log.warn;
		const holder = makeThirdHolder({
			jobId: "j",
			runDir,
			hold,
			log,
			onDeadline: () => told.push("deadline"),
			onStuck: (mountPoints) => told.push(`stuck ${mountPoints}`),
		});
		return { holder, hold };
	}

	test("thaws by itself when its deadline has passed, ends the freezer, and lets the writes go on", async () => {
		const told: string[] = [];
		const { holder, hold } = makeHolder(told);
		const { pid, identity } = freezerProcess();
		await holder.open([target]);
		await holder.freezing({ holdLimitMs: 200, freezerPid: pid });
		await writeLedgerOf("frozen", pid);
		await freeze(fileSystem.mountPoint);
		const written = hold.write(() => "written");
		await sleep(700);
		expect(holder.mayBeFrozen).toBe(true);
		await poll(() => holder.mayBeFrozen).toBe(false);
		expect(told).toContain("deadline");
		expect(await thaw(fileSystem.mountPoint)).toBe(false);
		expect(await written).toBe("written");
		expect(existsSync(join(runDir, "freezes", "j.json"))).toBe(false);
		expect(identity && isSameProcessAlive(identity)).toBe(false);
	});

	test("thaws when the extension has ended, though the path leads elsewhere by then", async () => {
		const { holder } = makeHolder([]);
		const { pid } = freezerProcess();
		await holder.open([target]);
		await holder.freezing({ holdLimitMs: 30_000, freezerPid: pid });
		await writeLedgerOf("freezing", pid);
		await freeze(fileSystem.mountPoint);
		expect(await holder.rescue("a test", new AbortController().signal)).toBe(true);
		expect(await thaw(fileSystem.mountPoint)).toBe(false);
	});

	test("thaws nothing a second time when the freezer has ended: the next to freeze it is somebody else", async () => {
		const told: string[] = [];
		const { holder } = makeHolder(told);
		const { pid } = freezerProcess();
		await holder.open([target]);
		await holder.freezing({ holdLimitMs: 30_000, freezerPid: pid });
		await writeLedgerOf("frozen", pid);
		await freeze(fileSystem.mountPoint);
		expect(await holder.rescue("a test", new AbortController().signal)).toBe(true);
		expect(told).toEqual(["rescue thawed"]);
	});

	test("leaves a foreign freeze alone, and one that was never begun", async () => {
		for (const state of ["foreign", "pending", "thawed"] as const) {
			const { holder } = makeHolder([]);
			const { pid } = freezerProcess();
			await holder.open([target]);
			await holder.freezing({ holdLimitMs: 30_000, freezerPid: pid });
			await writeLedgerOf(state, pid);
			await freeze(fileSystem.mountPoint);
			expect(await holder.rescue("a test", new AbortController().signal)).toBe(true);
			expect(await thaw(fileSystem.mountPoint)).toBe(true);
		}
	});

	test("an unreadable ledger makes every target a suspect", async () => {
		const { holder } = makeHolder([]);
		const { pid } = freezerProcess();
		await holder.open([target]);
		await holder.freezing({ holdLimitMs: 30_000, freezerPid: pid });
		writeFileSync(join(runDir, "freezes", "j.json"), "{");
		await freeze(fileSystem.mountPoint);
		expect(await holder.rescue("a test", new AbortController().signal)).toBe(true);
		expect(await thaw(fileSystem.mountPoint)).toBe(false);
	});

	test("a run folder that vanished makes every target a suspect; a ledger that the freezer removed makes none", async () => {
		for (const [removed, frozen] of [
			["freezes", false],
			["freezes/j.json", true],
		] as const) {
			const { holder } = makeHolder([]);
			const { pid } = freezerProcess();
			mkdirSync(join(runDir, "freezes"), { recursive: true });
			await writeLedgerOf("frozen", pid);
			await holder.open([target]);
			await holder.freezing({ holdLimitMs: 30_000, freezerPid: pid });
			await freeze(fileSystem.mountPoint);
			rmSync(join(runDir, removed), { recursive: true });
			expect(await holder.rescue("a test", new AbortController().signal)).toBe(true);
			expect(await thaw(fileSystem.mountPoint)).toBe(frozen);
		}
	});

	test("a ledger that can't be removed keeps no write back", async () => {
		const { holder, hold } = makeHolder([]);
		const { pid } = freezerProcess();
		await holder.open([target]);
		await holder.freezing({ holdLimitMs: 30_000, freezerPid: pid });
		await freeze(fileSystem.mountPoint);
		rmSync(join(runDir, "freezes"), { recursive: true });
		writeFileSync(join(runDir, "freezes"), "in the way");
		expect(await holder.rescue("a test", new AbortController().signal)).toBe(true);
		expect(hold.held).toBe(false);
	});

	test("told that all is thawed, it does not touch a later freeze of another", async () => {
		const { holder, hold } = makeHolder([]);
		const { pid } = freezerProcess();
		await holder.open([target]);
		await holder.freezing({ holdLimitMs: 100, freezerPid: pid });
		holder.thawed();
		expect(hold.held).toBe(false);
		await writeLedgerOf("frozen", pid);
		await freeze(fileSystem.mountPoint);
		await sleep(1_500);
		expect(await thaw(fileSystem.mountPoint)).toBe(true);
	});

	test("a FIFREEZE that the kernel will not give back: stuck is said, and it is thawed as soon as the kernel lets go", async () => {
		// The lower file system is frozen by another, so the freeze of the upper one hangs in the kernel.
		const upper = stack.use(
			await makeLoopFileSystem({ dir: fileSystem.mountPoint, fsType: "ext2", sizeMiB: 8, name: "upper" }),
		);
		stack.defer(async () => void (await thaw(fileSystem.mountPoint)));
		const mount = (await readMountTable()).find((one) => one.mountPoint === upper.mountPoint);
		const { dev, ino } = statSync(upper.mountPoint, { bigint: true });
		target = {
			...target,
			superblock: mount?.superblock ?? "0:0",
			mountPoint: upper.mountPoint,
			openPath: upper.mountPoint,
			dev: `${dev}`,
			ino: `${ino}`,
		};
		const told: string[] = [];
		const { holder, hold } = makeHolder(told);
		await holder.open([target]);
		writeFileSync(join(upper.mountPoint, "dirty"), "x".repeat(100_000));
		await freeze(fileSystem.mountPoint);
		// On a thread of its pool, as the real freezer: killed, its main thread is a zombie while that one goes on.
		const calls = resolve(import.meta.dirname, "../../platform/linux/freeze-calls.ts");
		const program = `
			import { openSync } from "node:fs";
			import { loadFreezeCalls } from ${JSON.stringify(calls)};
			const calls = await loadFreezeCalls();
			await calls.freeze(openSync(${JSON.stringify(upper.mountPoint)}, "r"));`;
		const freezer = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "ignore" });
		const pid = freezer.pid ?? 0;
		await poll(() => findBlockedThreads([pid]).length).toBe(1);
		const identity = findProcessIdentity(pid);
		await holder.freezing({ holdLimitMs: 30_000, freezerPid: pid });
		await writeLedgerOf("freezing", pid);
		const rescued = holder.rescue("a test", new AbortController().signal);
		await poll(() => told).toContain(`stuck ${upper.mountPoint}`);
		expect(identity && isSameProcessAlive(identity)).toBe(true);
		expect([holder.mayBeFrozen, hold.held]).toEqual([true, true]);
		expect(await thaw(fileSystem.mountPoint)).toBe(true);
		expect(await rescued).toBe(true);
		expect([holder.mayBeFrozen, hold.held]).toEqual([false, false]);
		expect(await thaw(upper.mountPoint)).toBe(false);
	});
});
