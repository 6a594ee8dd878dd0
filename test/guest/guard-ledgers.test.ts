/** The product's guard, and ledgers that are written here: a sleeping process stands for the freezer. */
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { FreezeResult, FreezeTarget, Ledger } from "../../contracts/freezer-protocol.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { writeLedger } from "../../platform/linux/freezer/ledger-file.ts";
import { readMountTable } from "../../platform/linux/mount-table.ts";
import { findProcessIdentity, isSameProcessAlive } from "../../platform/linux/process-identity.ts";
import { freeze, type LoopFileSystem, makeLoopFileSystem, startGuard, thaw } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { type ProductGuard, startProductGuard } from "../fixtures/product-guard.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze", "mount");
/** Of the guard, and something for a busy machine. */
const rescueMs = 1_500;
/** Longer than a rescue takes. */
const untouchedMs = 900;

describe.skipIf(missing)(`the guard and the ledgers${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let dir: string;
	let runDir: string;
	let freezes: string;
	let fileSystem: LoopFileSystem;
	let target: FreezeTarget;
	let bootId: string;

	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		dir = mkdtempSync("/var/lib/stillpoint-test-guarded-");
		stack.defer(() => rmSync(dir, { recursive: true, force: true }));
		runDir = mkdtempSync("/dev/shm/stillpoint-test-guarded-");
		stack.defer(() => rmSync(runDir, { recursive: true, force: true }));
		freezes = join(runDir, "freezes");
		mkdirSync(freezes);
		stack.use(startGuard({ dir, limitMs: 60_000 }));
		fileSystem = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 16, name: "data" }));
		target = await targetOf(fileSystem.mountPoint);
		bootId = await readBootId();
	});
	afterEach(() => stack.disposeAsync());

	async function targetOf(mountPoint: string): Promise<FreezeTarget> {
		const mount = (await readMountTable()).find((one) => one.mountPoint === mountPoint);
		const { dev, ino } = statSync(mountPoint, { bigint: true });
		const superblock = mount?.superblock ?? "0:0";
		return { superblock, mountPoint, openPath: mountPoint, fsType: "ext4", level: 0, dev: `${dev}`, ino: `${ino}` };
	}
	/** The kernel's freeze outlives it. */
	function freezerProcess() {
		const child = spawn("sleep", ["60"], { stdio: "ignore" });
		stack.defer(() => void child.kill("SIGKILL"));
		const identity = findProcessIdentity(child.pid ?? 0) ?? { pid: 0, startTime: "" };
		return { identity, kill: () => void child.kill("SIGKILL"), stop: () => void child.kill("SIGSTOP") };
	}
	type Freezer = ReturnType<typeof freezerProcess>;
	function tellLedger(state: FreezeResult, freezer: Freezer, changes: Partial<Ledger> = {}): string {
		const jobId = changes.jobId ?? "j";
		const path = join(freezes, `${jobId}.json`);
		const fileSystems = [{ ...target, state, fd: 3 }];
		writeLedger(path, { schemaVersion: 1, jobId, bootId, freezer: freezer.identity, fileSystems, ...changes });
		return path;
	}
	function nowMs(): number {
		return Number(process.hrtime.bigint()) / 1e6;
	}
	const begin = async (): Promise<ProductGuard> => stack.use(await startProductGuard(runDir));
	const writable = (limitMs = rescueMs) => isWritable(fileSystem.mountPoint, limitMs);

	test("without it, what a killed freezer held stays frozen (negative control)", async () => {
		const freezer = freezerProcess();
		tellLedger("frozen", freezer);
		await freeze(fileSystem.mountPoint);
		freezer.kill();
		expect(await writable(untouchedMs)).toBe(false);
	});

	test("thaws when the freezer has ended, and removes the ledger", async () => {
		const guard = await begin();
		const freezer = freezerProcess();
		tellLedger("pending", freezer);
		const path = tellLedger("freezing", freezer);
		await freeze(fileSystem.mountPoint);
		expect(await writable(untouchedMs)).toBe(false);
		freezer.kill();
		expect(await writable()).toBe(true);
		await poll(() => existsSync(path)).toBe(false);
		expect(guard.lines.join("\n")).toContain(`${fileSystem.mountPoint} thawed`);
	});

	test("ends a freezer that is stopped beyond its deadline, and thaws", async () => {
		await begin();
		const freezer = freezerProcess();
		freezer.stop();
		const path = tellLedger("frozen", freezer, { deadlineAtMs: nowMs() + 300 });
		await freeze(fileSystem.mountPoint);
		expect(await writable(1_000)).toBe(false);
		expect(await writable(300 + 2_000)).toBe(true);
		await poll(() => isSameProcessAlive(freezer.identity)).toBe(false);
		await poll(() => existsSync(path)).toBe(false);
	});

	test.each(["foreign", "thawed", "pending", "unsupported", "not-frozen"] as const)(
		"a freeze that the ledger calls %s is left alone",
		async (state) => {
			await begin();
			const freezer = freezerProcess();
			const path = tellLedger(state, freezer);
			await freeze(fileSystem.mountPoint);
			freezer.kill();
			expect(await writable(untouchedMs)).toBe(false);
			// It says nothing any more.
			await poll(() => existsSync(path)).toBe(false);
			expect(await thaw(fileSystem.mountPoint)).toBe(true);
		},
	);

	test("a ledger of another boot is left alone, with its freeze", async () => {
		const guard = await begin();
		const freezer = freezerProcess();
		const path = tellLedger("frozen", freezer, { bootId: "11111111-2222-3333-4444-555555555555" });
		await freeze(fileSystem.mountPoint);
		freezer.kill();
		expect(await writable(untouchedMs)).toBe(false);
		expect(existsSync(path)).toBe(true);
		expect(guard.ended).toBe(false);
		expect(await thaw(fileSystem.mountPoint)).toBe(true);
	});

	test("thaws what was mounted over, moved and unmounted after the freeze", async () => {
		await begin();
		const freezer = freezerProcess();
		tellLedger("pending", freezer);
		await sleep(300);
		tellLedger("freezing", freezer);
		await freeze(fileSystem.mountPoint);
		const inside = await holdOpen(fileSystem.mountPoint);
		await execa("umount", ["--lazy", fileSystem.mountPoint]);
		await execa("mount", ["-t", "tmpfs", "tmpfs", fileSystem.mountPoint]);
		stack.defer(async () => void (await execa("umount", [fileSystem.mountPoint], { reject: false })));
		freezer.kill();
		expect(await isWritable(inside, rescueMs)).toBe(true);
	});

	/** A process in the folder: a way to it when no path leads there. */
	async function holdOpen(folder: string): Promise<string> {
		const child = spawn("sleep", ["60"], { cwd: folder, stdio: "ignore" });
		stack.defer(() => void child.kill("SIGKILL"));
		await poll(() => existsSync(`/proc/${child.pid}/cwd/lost+found`)).toBe(true);
		return `/proc/${child.pid}/cwd`;
	}

	test("lower layers first, and more file systems than it has threads for at a time", async () => {
		await begin();
		const inner = stack.use(
			await makeLoopFileSystem({ dir: fileSystem.mountPoint, fsType: "ext4", sizeMiB: 4, name: "inner" }),
		);
		const upper = await targetOf(inner.mountPoint);
		const freezer = freezerProcess();
		const fileSystems = [
			{ ...upper, level: 0, state: "frozen" as const, fd: 3 },
			{ ...target, level: 1, state: "frozen" as const, fd: 4 },
		];
		tellLedger("frozen", freezer, { fileSystems });
		await freeze(inner.mountPoint);
		await freeze(fileSystem.mountPoint);
		freezer.kill();
		expect(await isWritable(inner.mountPoint, rescueMs)).toBe(true);
		expect(await writable()).toBe(true);
	});

	test("a guard that starts later picks up what it finds", async () => {
		const freezer = freezerProcess();
		const path = tellLedger("frozen", freezer);
		await freeze(fileSystem.mountPoint);
		freezer.kill();
		await begin();
		expect(await writable()).toBe(true);
		await poll(() => existsSync(path)).toBe(false);
	});

	test("what others thawed while it was stopped, and somebody else froze since, it leaves alone", async () => {
		const guard = await begin();
		const freezer = freezerProcess();
		const path = tellLedger("frozen", freezer, { deadlineAtMs: nowMs() + 100 });
		await freeze(fileSystem.mountPoint);
		await sleep(100);
		process.kill(guard.pid, "SIGSTOP");
		freezer.kill();
		await sleep(600);
		rmSync(path);
		expect(await thaw(fileSystem.mountPoint)).toBe(true);
		await freeze(fileSystem.mountPoint);
		process.kill(guard.pid, "SIGCONT");
		expect(await writable(untouchedMs)).toBe(false);
		expect(await thaw(fileSystem.mountPoint)).toBe(true);
	});

	test("a ledger that was told while it was stopped is guarded when it goes on", async () => {
		const guard = await begin();
		process.kill(guard.pid, "SIGSTOP");
		const freezer = freezerProcess();
		tellLedger("frozen", freezer);
		await freeze(fileSystem.mountPoint);
		freezer.kill();
		expect(await writable(untouchedMs)).toBe(false);
		process.kill(guard.pid, "SIGCONT");
		expect(await writable()).toBe(true);
	});

	test("its end changes nothing for the others, and the next one begins where it was", async () => {
		const guard = await begin();
		const freezer = freezerProcess();
		tellLedger("frozen", freezer);
		await freeze(fileSystem.mountPoint);
		process.kill(guard.pid, "SIGKILL");
		await guard.exited;
		expect(isSameProcessAlive(freezer.identity)).toBe(true);
		expect(await writable(300)).toBe(false);
		await begin();
		expect(await writable(untouchedMs)).toBe(false);
		freezer.kill();
		expect(await writable()).toBe(true);
	});

	test("asked to end while frozen it stays until the thaw; asked twice it goes", async () => {
		const first = await begin();
		const freezer = freezerProcess();
		const path = tellLedger("frozen", freezer);
		await freeze(fileSystem.mountPoint);
		await sleep(200);
		process.kill(first.pid, "SIGTERM");
		await sleep(500);
		expect(first.ended).toBe(false);
		freezer.kill();
		expect(await writable()).toBe(true);
		await first.exited;
		expect(existsSync(join(runDir, "guard.json"))).toBe(false);

		const second = await begin();
		tellLedger("frozen", freezerProcess());
		await sleep(200);
		process.kill(second.pid, "SIGTERM");
		await sleep(200);
		expect(second.ended).toBe(false);
		process.kill(second.pid, "SIGTERM");
		await second.exited;
		expect(existsSync(path)).toBe(true);
	});

	test("torn, wrong and huge files, links and folders among hundreds of ledgers don't keep it from the one", async () => {
		const guard = await begin();
		const other = freezerProcess();
		for (let index = 0; index < 300; index += 1) tellLedger("pending", other, { jobId: `other-${index}` });
		const bad = {
			torn: '{"schemaVersion":1,"jobId":"torn","fileSys',
			empty: "",
			number: "7",
			"not-utf-8": Buffer.from([0xff, 0xfe, 0]),
			huge: "x".repeat(5 * 1024 * 1024),
			"wrong-pid": JSON.stringify({ schemaVersion: 1, jobId: "w", bootId, freezer: { pid: -1 }, fileSystems: [] }),
		};
		for (const [name, content] of Object.entries(bad)) writeFileSync(join(freezes, `${name}.json`), content);
		mkdirSync(join(freezes, "folder.json"));
		await execa("ln", ["-s", "/etc/passwd", join(freezes, "link.json")]);
		await execa("mkfifo", [join(freezes, "fifo.json")]);
		const freezer = freezerProcess();
		tellLedger("frozen", freezer);
		// Somebody else could have written it.
		const gone = freezerProcess();
		gone.kill();
		chmodSync(tellLedger("frozen", gone, { jobId: "open-to-all" }), 0o666);
		await freeze(fileSystem.mountPoint);
		freezer.kill();
		expect(await writable(rescueMs + 2_000)).toBe(true);
		expect(guard.ended).toBe(false);
		for (const name of Object.keys(bad)) expect(existsSync(join(freezes, `${name}.json`))).toBe(true);
		expect(guard.lines.join("\n")).toMatch(/torn\.json is no JSON.*: not guarded/);
	});

	test("a ledger that is torn after it was read still tells what may be ours", async () => {
		await begin();
		const freezer = freezerProcess();
		const path = tellLedger("pending", freezer);
		await sleep(300);
		writeFileSync(path, "{");
		await freeze(fileSystem.mountPoint);
		freezer.kill();
		expect(await writable()).toBe(true);
	});

	test("the run folder is removed while frozen: it thaws all the same, and guards the one that comes after it", async () => {
		const guard = await begin();
		const first = freezerProcess();
		tellLedger("frozen", first);
		await freeze(fileSystem.mountPoint);
		await sleep(200);
		rmSync(runDir, { recursive: true });
		first.kill();
		expect(await writable()).toBe(true);
		mkdirSync(runDir, { mode: 0o700 });
		await poll(() => existsSync(join(runDir, "guard.json"))).toBe(true);
		mkdirSync(freezes);
		const second = freezerProcess();
		const path = tellLedger("frozen", second);
		await freeze(fileSystem.mountPoint);
		second.kill();
		expect(await writable()).toBe(true);
		await poll(() => existsSync(path)).toBe(false);
		expect(guard.ended).toBe(false);
	});

	test("a ledger whose paths lead nowhere is said, kept, and does not keep it from others", async () => {
		const guard = await begin();
		const lost = freezerProcess();
		const nowhere = { ...target, superblock: "0:99999", mountPoint: "/gone", openPath: join(dir, "gone"), ino: "1" };
		const path = tellLedger("frozen", lost, {
			jobId: "lost",
			fileSystems: [{ ...nowhere, state: "frozen", fd: 999 }],
		});
		lost.kill();
		const freezer = freezerProcess();
		tellLedger("frozen", freezer);
		await freeze(fileSystem.mountPoint);
		freezer.kill();
		expect(await writable()).toBe(true);
		expect(existsSync(path)).toBe(true);
		expect(guard.lines.join("\n")).toMatch(/job lost: \/gone thaw-failed/);
	});

	test("one for a run folder: the second refuses, and the file says who guards", async () => {
		const guard = await begin();
		const record = JSON.parse(readFileSync(join(runDir, "guard.json"), "utf8"));
		expect(record.pid).toBe(guard.pid);
		const second = await begin();
		await second.exited;
		expect(second.lines.join("\n")).toContain("already-running");
		expect(guard.ended).toBe(false);
		expect(JSON.parse(readFileSync(join(runDir, "guard.json"), "utf8")).pid).toBe(guard.pid);
	});
});
