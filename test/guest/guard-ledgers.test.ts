/** The product's guard, and ledgers that are written here: a sleeping process stands for the freezer. */
import { spawn } from "node:child_process";
import {
	chmodSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	renameSync,
	rmSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import type { FreezeResult, FreezeTarget, Ledger } from "../../contracts/freezer-protocol.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { writeLedger } from "../../platform/linux/freezer/ledger-file.ts";
import { readMountTable } from "../../platform/linux/mount-table.ts";
import { findProcessIdentity, isSameProcessAlive } from "../../platform/linux/process-identity.ts";
import { freeze, makeLoopFileSystem, startGuard, thaw } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { type ProductGuard, startProductGuard } from "../fixtures/product-guard.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze", "mount", "nbdkit", "nbdfuse");
/** Of the guard, and much for a busy machine: without it there is no thaw at all. */
const rescueMs = 8_000;
/** Longer than a rescue takes. */
const untouchedMs = 900;

type Bench = Awaited<ReturnType<typeof openBench>>;

describe.skipIf(missing)(`the guard and the ledgers${missing ? `: ${missing}` : ""}`, () => {
	/** Each on a machine of its own, several at a time: most of it is waiting. */
	function guarded(name: string, body: (bench: Bench) => Promise<void>): void {
		test.concurrent(name, { timeout: 60_000 }, async () => {
			await using bench = await openBench();
			await body(bench);
		});
	}

	guarded(
		"without it, what a killed freezer held stays frozen (negative control)",
		async ({ fileSystem, freezerProcess, tellLedger, writable }) => {
			const freezer = freezerProcess();
			tellLedger("frozen", freezer);
			await freeze(fileSystem.mountPoint);
			freezer.kill();
			expect(await writable(untouchedMs)).toBe(false);
		},
	);

	guarded(
		"thaws when the freezer has ended, and removes the ledger",
		async ({ fileSystem, freezerProcess, tellLedger, begin, writable }) => {
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
		},
	);

	guarded(
		"ends a freezer that is stopped beyond its deadline, and thaws",
		async ({ fileSystem, freezerProcess, tellLedger, begin, writable }) => {
			await begin();
			const freezer = freezerProcess();
			freezer.stop();
			const path = tellLedger("frozen", freezer, { deadlineAtMs: nowMs() + 300 });
			await freeze(fileSystem.mountPoint);
			expect(await writable(1_000)).toBe(false);
			expect(await writable()).toBe(true);
			await poll(() => isSameProcessAlive(freezer.identity)).toBe(false);
			await poll(() => existsSync(path)).toBe(false);
		},
	);

	for (const state of ["foreign", "thawed", "pending", "unsupported", "not-frozen"] as const)
		guarded(
			`a freeze that the ledger calls ${state} is left alone`,
			async ({ fileSystem, freezerProcess, tellLedger, begin, writable }) => {
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

	guarded(
		"a ledger of another boot is left alone, with its freeze",
		async ({ fileSystem, freezerProcess, tellLedger, begin, writable }) => {
			const guard = await begin();
			const freezer = freezerProcess();
			const path = tellLedger("frozen", freezer, { bootId: "11111111-2222-3333-4444-555555555555" });
			await freeze(fileSystem.mountPoint);
			freezer.kill();
			expect(await writable(untouchedMs)).toBe(false);
			expect(existsSync(path)).toBe(true);
			expect(guard.ended).toBe(false);
			expect(await thaw(fileSystem.mountPoint)).toBe(true);
		},
	);

	guarded(
		"thaws what was mounted over, moved and unmounted after the freeze",
		async ({ stack, fileSystem, freezerProcess, tellLedger, begin, holdOpen, untilHeld }) => {
			const guard = await begin();
			const freezer = freezerProcess();
			tellLedger("pending", freezer);
			await untilHeld(guard);
			tellLedger("freezing", freezer);
			await freeze(fileSystem.mountPoint);
			const inside = await holdOpen(fileSystem.mountPoint);
			await execa("umount", ["--lazy", fileSystem.mountPoint]);
			await execa("mount", ["-t", "tmpfs", "tmpfs", fileSystem.mountPoint]);
			stack.defer(async () => void (await execa("umount", [fileSystem.mountPoint], { reject: false })));
			freezer.kill();
			expect(await isWritable(inside, rescueMs)).toBe(true);
		},
	);

	guarded("lower layers first", async ({ target, stack, fileSystem, freezerProcess, tellLedger, begin, writable }) => {
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

	guarded(
		"a guard that starts later picks up what it finds",
		async ({ fileSystem, freezerProcess, tellLedger, begin, writable }) => {
			const freezer = freezerProcess();
			const path = tellLedger("frozen", freezer);
			await freeze(fileSystem.mountPoint);
			freezer.kill();
			await begin();
			expect(await writable()).toBe(true);
			await poll(() => existsSync(path)).toBe(false);
		},
	);

	guarded(
		"what others thawed while it was stopped, and somebody else froze since, it leaves alone",
		async ({ fileSystem, freezerProcess, tellLedger, begin, writable, untilHeld }) => {
			const guard = await begin();
			const freezer = freezerProcess();
			const path = tellLedger("frozen", freezer, { deadlineAtMs: nowMs() + 100 });
			await freeze(fileSystem.mountPoint);
			await untilHeld(guard);
			process.kill(guard.pid, "SIGSTOP");
			freezer.kill();
			await sleep(600);
			rmSync(path);
			expect(await thaw(fileSystem.mountPoint)).toBe(true);
			await freeze(fileSystem.mountPoint);
			process.kill(guard.pid, "SIGCONT");
			expect(await writable(untouchedMs)).toBe(false);
			expect(await thaw(fileSystem.mountPoint)).toBe(true);
		},
	);

	guarded(
		"a ledger that was told while it was stopped is guarded when it goes on",
		async ({ fileSystem, freezerProcess, tellLedger, begin, writable }) => {
			const guard = await begin();
			process.kill(guard.pid, "SIGSTOP");
			const freezer = freezerProcess();
			tellLedger("frozen", freezer);
			await freeze(fileSystem.mountPoint);
			freezer.kill();
			expect(await writable(untouchedMs)).toBe(false);
			process.kill(guard.pid, "SIGCONT");
			expect(await writable()).toBe(true);
		},
	);

	guarded(
		"its end changes nothing for the others, and the next one begins where it was",
		async ({ fileSystem, freezerProcess, tellLedger, begin, writable }) => {
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
		},
	);

	guarded(
		"asked to end while frozen it stays until the thaw; asked twice it goes",
		async ({ runDir, fileSystem, freezerProcess, tellLedger, begin, writable, untilHeld }) => {
			const first = await begin();
			const freezer = freezerProcess();
			const path = tellLedger("frozen", freezer);
			await freeze(fileSystem.mountPoint);
			await untilHeld(first);
			process.kill(first.pid, "SIGTERM");
			await sleep(500);
			expect(first.ended).toBe(false);
			freezer.kill();
			expect(await writable()).toBe(true);
			await first.exited;
			expect(existsSync(join(runDir, "guard.json"))).toBe(false);

			const second = await begin();
			tellLedger("frozen", freezerProcess());
			await untilHeld(second);
			process.kill(second.pid, "SIGTERM");
			await sleep(200);
			expect(second.ended).toBe(false);
			process.kill(second.pid, "SIGTERM");
			await second.exited;
			expect(existsSync(path)).toBe(true);
		},
	);

	guarded(
		"torn, wrong and huge files, links and folders among hundreds of ledgers don't keep it from the one",
		async ({ freezes, fileSystem, bootId, freezerProcess, tellLedger, begin, writable }) => {
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
			expect(await writable()).toBe(true);
			expect(guard.ended).toBe(false);
			for (const name of Object.keys(bad)) expect(existsSync(join(freezes, `${name}.json`))).toBe(true);
			expect(guard.lines.join("\n")).toMatch(/torn\.json is no JSON.*: not guarded/);
		},
	);

	guarded(
		"a ledger that is torn after it was read still tells what may be ours",
		async ({ fileSystem, freezerProcess, tellLedger, begin, writable, untilHeld }) => {
			const guard = await begin();
			const freezer = freezerProcess();
			const path = tellLedger("pending", freezer);
			await untilHeld(guard);
			writeFileSync(path, "{");
			await freeze(fileSystem.mountPoint);
			freezer.kill();
			expect(await writable()).toBe(true);
		},
	);

	guarded(
		"the run folder is taken away while frozen: it thaws all the same, and guards the one that comes after it",
		async ({ stack, runDir, freezes, fileSystem, freezerProcess, tellLedger, begin, writable, untilHeld }) => {
			const guard = await begin();
			const first = freezerProcess();
			tellLedger("frozen", first);
			await freeze(fileSystem.mountPoint);
			await untilHeld(guard);
			renameSync(runDir, `${runDir}-gone`);
			stack.defer(() => rmSync(`${runDir}-gone`, { recursive: true, force: true }));
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
		},
	);

	guarded(
		"a ledger whose paths lead nowhere is said, kept, and does not keep it from others",
		async ({ target, dir, fileSystem, freezerProcess, tellLedger, begin, writable }) => {
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
			await poll(() => guard.lines.join("\n")).toMatch(/job lost: \/gone thaw-failed/);
			// Nothing that it could thaw keeps it.
			process.kill(guard.pid, "SIGTERM");
			await poll(() => guard.ended).toBe(true);
		},
	);

	// A guard that was started again comes when the paths may have been mounted over.
	guarded(
		"a path that hangs holds up no thaw of the others",
		async ({ stack, dir, target, fileSystem, freezerProcess, tellLedger, begin, writable }) => {
			const over = join(dir, "hangs");
			mkdirSync(over);
			const server = spawn("nbdfuse", [over, "--command", "nbdkit", "-s", "memory", "1M"], { stdio: "ignore" });
			stack.defer(async () => {
				server.kill("SIGCONT");
				await execa("umount", ["--lazy", over], { reject: false });
				server.kill();
			});
			await poll(() => statSync(over).dev !== statSync(dir).dev).toBe(true);
			server.kill("SIGSTOP");
			const hangs = { ...target, superblock: "0:99999", mountPoint: "/hangs", openPath: over, ino: "1" };
			const freezer = freezerProcess();
			tellLedger("frozen", freezer, {
				fileSystems: [
					{ ...hangs, state: "frozen", fd: 998 },
					{ ...target, state: "frozen", fd: 999 },
				],
			});
			await freeze(fileSystem.mountPoint);
			const guard = await begin();
			freezer.kill();
			expect(await writable()).toBe(true);
			await poll(() => guard.lines.join("\n")).toMatch(/\/hangs thaw-failed/);
			server.kill("SIGCONT");
		},
	);

	guarded("one for a run folder: the second refuses, and the file says who guards", async ({ runDir, begin }) => {
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

async function openBench() {
	const stack = new AsyncDisposableStack();
	const dir = mkdtempSync("/var/lib/stillpoint-test-guarded-");
	stack.defer(() => rmSync(dir, { recursive: true, force: true }));
	const runDir = mkdtempSync("/dev/shm/stillpoint-test-guarded-");
	stack.defer(() => rmSync(runDir, { recursive: true, force: true }));
	const freezes = join(runDir, "freezes");
	mkdirSync(freezes);
	stack.use(startGuard({ dir, limitMs: 60_000 }));
	const fileSystem = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 16, name: "data" }));
	const target = await targetOf(fileSystem.mountPoint);
	const bootId = await readBootId();

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
	/** A process in the folder: a way to it when no path leads there. */
	async function holdOpen(folder: string): Promise<string> {
		const child = spawn("sleep", ["60"], { cwd: folder, stdio: "ignore" });
		stack.defer(() => void child.kill("SIGKILL"));
		await poll(() => existsSync(`/proc/${child.pid}/cwd/lost+found`)).toBe(true);
		return `/proc/${child.pid}/cwd`;
	}
	/** It has the directory open. */
	async function untilHeld({ pid }: ProductGuard): Promise<void> {
		const open = () => readdirSync(`/proc/${pid}/fd`).map((fd) => findLink(`/proc/${pid}/fd/${fd}`));
		await poll(open).toContain(fileSystem.mountPoint);
	}
	return {
		stack,
		untilHeld,
		dir,
		runDir,
		freezes,
		fileSystem,
		target,
		bootId,
		freezerProcess,
		tellLedger,
		holdOpen,
		begin: async (): Promise<ProductGuard> => stack.use(await startProductGuard(runDir)),
		writable: (limitMs = rescueMs) => isWritable(fileSystem.mountPoint, limitMs),
		[Symbol.asyncDispose]: () => stack.disposeAsync(),
	};
}

async function targetOf(mountPoint: string): Promise<FreezeTarget> {
	const mount = (await readMountTable()).find((one) => one.mountPoint === mountPoint);
	const { dev, ino } = statSync(mountPoint, { bigint: true });
	const superblock = mount?.superblock ?? "0:0";
	return { superblock, mountPoint, openPath: mountPoint, fsType: "ext4", level: 0, dev: `${dev}`, ino: `${ino}` };
}

function findLink(path: string): string | undefined {
	try {
		return readlinkSync(path);
	} catch {
		return undefined;
	}
}

function nowMs(): number {
	return Number(process.hrtime.bigint()) / 1e6;
}
