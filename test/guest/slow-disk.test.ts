/** The disk that tests make slow, stuck and broken: what it does to a freeze, and that it always goes away. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseProcessStat } from "../../platform/linux/process-identity.ts";
import { startGuard } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { findLeftovers } from "../fixtures/shapes/find-leftovers.ts";
import { lacksForSlowDisk, openSlowDisk, type SlowDisk } from "../fixtures/slow-disk.ts";
import { isWritable } from "../fixtures/writable.ts";

const program = fileURLToPath(new URL("../fixtures/open-slow-disk-program.ts", import.meta.url));

describe.concurrent.each(["ext4", "xfs", "btrfs"] as const)("a slow disk with %s", (fsType) => {
	const missing = lacksForSlowDisk(fsType);
	const why = missing ? `: ${missing}` : "";
	let dir: string;
	let guard: Disposable;
	beforeAll(async () => {
		dir = await mkdtemp("/var/lib/stillpoint-test-");
		guard = startGuard({ dir, limitMs: 120_000 });
	});
	afterAll(async () => {
		guard[Symbol.dispose]();
		await rm(dir, { recursive: true, force: true });
	});

	test.skipIf(missing)(`makes a freeze take as long as it is told to${why}`, async () => {
		await using undo = new AsyncDisposableStack();
		const disk = undo.use(await openSlowDisk({ dir, fsType, mode: "delay", writeDelayMs: 700 }));
		await makeDirt(disk);
		await disk.strike();
		const beganMs = performance.now();
		const freezing = freeze(disk);
		expect(await stateAfter(freezing, 200)).toBe("D");
		expect(await freezing.status).toBe(0);
		expect(performance.now() - beganMs).toBeGreaterThan(600);
		await undo.disposeAsync();
		expect(findLeftovers(dirname(disk.mountPoint))).toEqual([]);
	});

	test.skipIf(missing)(`holds up a freeze for as long as it is stuck, and no longer${why}`, async () => {
		await using undo = new AsyncDisposableStack();
		const disk = undo.use(await openSlowDisk({ dir, fsType, mode: "stuck" }));
		await makeDirt(disk);
		await disk.strike();
		const freezing = freeze(disk);
		expect(await stateAfter(freezing, 300)).toBe("D");
		freezing.child.kill("SIGKILL");
		expect(await stateAfter(freezing, 300)).toBe("D");
		expect(await isWritable(disk.mountPoint, 300)).toBe(false);
		await disk.release();
		await freezing.status;
		await thawed(disk);
		expect(await isWritable(disk.mountPoint)).toBe(true);
		await undo.disposeAsync();
		expect(findLeftovers(dirname(disk.mountPoint))).toEqual([]);
	});

	test.skipIf(missing)(`makes a freeze fail when it is broken${why}`, async () => {
		await using undo = new AsyncDisposableStack();
		const disk = undo.use(await openSlowDisk({ dir, fsType, mode: "error" }));
		await makeDirt(disk);
		await disk.strike();
		expect(await freeze(disk).status).toBe(1);
		await undo.disposeAsync();
		expect(findLeftovers(dirname(disk.mountPoint))).toEqual([]);
	});

	test.skipIf(missing)(`is taken away while stuck, with a freeze in flight${why}`, async () => {
		await using undo = new AsyncDisposableStack();
		const disk = undo.use(await openSlowDisk({ dir, fsType, mode: "stuck" }));
		await makeDirt(disk);
		await disk.strike();
		const freezing = freeze(disk);
		expect(await stateAfter(freezing, 200)).toBe("D");
		await undo.disposeAsync();
		await freezing.status;
		expect(findLeftovers(dirname(disk.mountPoint))).toEqual([]);
	});

	test.skipIf(missing)(`is gone when whoever opened it was killed, with a freeze in flight${why}`, async () => {
		await using undo = new AsyncDisposableStack();
		const own = await mkdtemp(`${dir}/killed-`);
		const child = spawn(process.execPath, [program, fsType, own], { stdio: ["ignore", "pipe", "inherit"] });
		undo.defer(() => void child.kill("SIGKILL"));
		const [line] = (await once(child.stdout, "data")) as [Buffer];
		const [folder = "", pid] = line.toString().trim().split(" ");
		await poll(() => findState(Number(pid))).toBe("D");
		expect(findLeftovers(folder).join()).toMatch(/mount.*loop.*process.*process/);
		child.kill("SIGKILL");
		await poll(() => [findState(Number(pid)), ...findLeftovers(folder)], 30_000).toEqual([
			undefined,
			`files ${folder}`,
		]);
	});
});

type Freezing = { readonly child: ChildProcess; readonly status: Promise<number | null> };

function freeze({ mountPoint }: SlowDisk): Freezing {
	const child = spawn("fsfreeze", ["-f", mountPoint], { stdio: "ignore", cwd: "/" });
	return { child, status: once(child, "exit").then(([status]: unknown[]) => status as number | null) };
}

async function thawed({ mountPoint }: SlowDisk): Promise<void> {
	await once(spawn("fsfreeze", ["-u", mountPoint], { stdio: "ignore", cwd: "/" }), "exit");
}

async function makeDirt({ mountPoint }: SlowDisk): Promise<void> {
	await writeFile(join(mountPoint, "dirt"), Buffer.alloc(64 * 1024, 7));
}

async function stateAfter({ child }: Freezing, ms: number): Promise<string | undefined> {
	await sleep(ms);
	return findState(child.pid as number);
}

/** Undefined: there is no such process. */
function findState(pid: number): string | undefined {
	try {
		return parseProcessStat(readFileSync(`/proc/${pid}/stat`, "latin1")).state;
	} catch {
		return undefined;
	}
}
