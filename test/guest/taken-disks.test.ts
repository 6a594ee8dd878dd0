/** Disks that are let go while the others are still taken: real file systems on loop disks, the extension as a process. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import type { SnapshotOutcome } from "../../contracts/hold-protocol.ts";
import type { Report } from "../../contracts/report.ts";
import { freeze, type LoopFileSystem, makeLoopFileSystem, requireTools, thaw } from "../fixtures/loop-file-system.ts";
import { copyImages, mountCopies } from "../fixtures/mounted-copies.ts";
import { poll } from "../fixtures/poll.ts";
import { isWritable, nameOf, takeSnapshot, toFrozen, untilWritable } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";
import type { TestHost } from "../fixtures/snapshot-host.ts";
import { isWritable as isWritableWithin } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze", "python3");
const withBtrfs = requireTools("mkfs.btrfs");

describe.skipIf(missing)(`disks that are taken one after the other${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const { make, start, defer } = bench;
	let one: LoopFileSystem;
	beforeAll(() => {
		one = bench.one;
	});

	function taken(host: TestHost, name: string, more: Partial<SnapshotOutcome> = {}): void {
		const disk = { name, ok: true, snapshotId: "s", provider: "test", ...more };
		host.tell({ type: "taken", jobId: host.jobId, disk });
	}

	/** Resolves when the extension has heard of so many `taken`, by its own log on tmpfs. */
	async function untilHeard(host: TestHost, count: number): Promise<void> {
		const path = join(host.runFolder, `window-${host.jobId}.jsonl`);
		for (;;) {
			const lines = (await readFile(path, "utf8")).split("\n");
			if (lines.filter((line) => line.includes('"taken"')).length >= count) return;
			await sleep(2);
		}
	}

	/** A short look: one that is not held is written to at once, unless the machine is busy. */
	const isHeld = async ({ mountPoint }: LoopFileSystem) => !(await isWritableWithin(mountPoint, 200));

	function diskOf(report: Report, disk: LoopFileSystem) {
		return report.disks.find(({ name }) => name === nameOf(disk));
	}

	test("writers on the first go on while the second is held, and both are worth as much as together", async () => {
		const other = await make("ext4");
		const host = await start([one, other]);
		expect((await host.event("prepared")).perDisk).toBe(true);
		await toFrozen(host);
		expect(await isHeld(one)).toBe(true);
		taken(host, nameOf(one));
		await untilWritable(one);
		// Without the word it stays as it is (negative control).
		expect(await isHeld(other)).toBe(true);
		// What is written and frozen by others after the disk was let go is theirs.
		await writeFile(join(one.mountPoint, "later"), "x");
		await freeze(one.mountPoint);
		const reporting = takeSnapshot(host, [one, other]);
		await host.event("thawed");
		expect(await thaw(one.mountPoint), "the foreign freeze after the disk was let go").toBe(true);
		const report = await reporting;
		expect(report).toMatchObject({ achieved: "file-system", because: [] });
		expect(report.fileSystems).toHaveLength(2);
		for (const fs of report.fileSystems) expect(fs).toMatchObject({ result: "thawed", frozenUntilSnapshotEnded: true });
		const [first, second] = [one, other].map((disk) => report.fileSystems.find(({ uuid }) => uuid === disk.uuid));
		expect(first?.heldMs).toBeLessThan(second?.heldMs ?? 0);
		expect(report.window?.stallMs).toBeGreaterThanOrEqual(second?.heldMs ?? Number.POSITIVE_INFINITY);
		expect(report.window?.heldMs).toBeLessThan(second?.heldMs ?? 0);
	});

	test("the image shows the instant of the freeze, however much is written while the other disk is still taken", async () => {
		const other = await make("ext4");
		const path = join(one.mountPoint, "numbers");
		const writer = startCounting(path);
		defer(() => writer.end());
		await poll(async () => (await lastNumber(path)) > 20).toBe(true);
		const host = await start([one, other]);
		await toFrozen(host);
		const atFreeze = await lastNumber(path);
		await copyImages([one], join(bench.dir, "in-time"));
		taken(host, nameOf(one));
		await poll(async () => (await lastNumber(path)) > atFreeze + 20).toBe(true);
		// Negative control: what a provider would give that names a disk before it is taken.
		await copyImages([one], join(bench.dir, "too-late"));
		await copyImages([other], join(bench.dir, "in-time"));
		expect(await isHeld(other)).toBe(true);
		expect(await takeSnapshot(host, [one, other])).toMatchObject({ achieved: "file-system", because: [] });
		await writer.end();
		const shownBy = async (folder: string, copies: LoopFileSystem[]) => {
			await using mounted = await mountCopies(copies, join(bench.dir, folder));
			return await lastNumber(mounted.pathOf(path));
		};
		expect(await shownBy("in-time", [one, other])).toBe(atFreeze);
		// A later number, half of one, or nothing that can be mounted.
		expect(await shownBy("too-late", [one]).catch(() => "unreadable")).not.toBe(atFreeze);
	});

	test.skipIf(withBtrfs)("a file system on two disks waits for both", async () => {
		const wide = await make("btrfs", { devices: 2, sizeMiB: 128 });
		const host = await start([wide]);
		await toFrozen(host);
		taken(host, nameOf(wide));
		await untilHeard(host, 1);
		expect(await isHeld(wide)).toBe(true);
		taken(host, wide.devices[1]?.slice("/dev/".length) ?? "");
		await untilWritable(wide);
		expect(await takeSnapshot(host, [wide])).toMatchObject({ achieved: "file-system", because: [] });
	});

	test("an upper layer is not thawed before the one that it stores on, and then with it", async () => {
		const inner = await makeLoopFileSystem({ dir: one.mountPoint, fsType: "ext4", sizeMiB: 16, name: "inner-taken" });
		defer(() => inner[Symbol.asyncDispose]());
		const other = await make("ext4");
		const host = await start([one, inner, other]);
		await toFrozen(host);
		taken(host, nameOf(inner));
		await untilHeard(host, 1);
		expect(await isHeld(inner)).toBe(true);
		taken(host, nameOf(one));
		await untilWritable(inner);
		expect(await isWritable(one)).toBe(true);
		expect(await isHeld(other)).toBe(true);
		expect(await takeSnapshot(host, [one, inner, other])).toMatchObject({ achieved: "file-system", because: [] });
	});

	test("somebody who thaws before the disk is taken is found out", async () => {
		const other = await make("ext4");
		const host = await start([one, other], { acceptLevel: "crash" });
		await toFrozen(host);
		expect(await thaw(one.mountPoint)).toBe(true);
		taken(host, nameOf(one));
		await untilHeard(host, 1);
		const report = await takeSnapshot(host, [one, other]);
		expect(diskOf(report, one)).toMatchObject({ achieved: "crash", because: ["thawed-by-other"] });
		expect(diskOf(report, other)).toMatchObject({ achieved: "file-system", because: [] });
	});

	test("also one who froze it again", async () => {
		const other = await make("ext4");
		const host = await start([one, other], { acceptLevel: "crash" });
		await toFrozen(host);
		await thaw(one.mountPoint);
		await writeFile(join(one.mountPoint, "in-between"), "x");
		await freeze(one.mountPoint);
		taken(host, nameOf(one));
		const report = await takeSnapshot(host, [one, other]);
		expect(diskOf(report, one)).toMatchObject({ achieved: "crash", because: ["thawed-by-other"] });
		expect(diskOf(report, other)).toMatchObject({ achieved: "file-system", because: [] });
	});

	describe("a word that is not to be believed lets nothing go", () => {
		test("of a disk that the job does not have, and that a disk failed", async () => {
			const other = await make("ext4");
			const host = await start([one, other], { acceptLevel: "crash" });
			await toFrozen(host);
			taken(host, "loop9999");
			taken(host, nameOf(one), { ok: false, error: "no space" });
			await untilHeard(host, 1);
			expect(await isHeld(one)).toBe(true);
			const report = await takeSnapshot(host, [one, other]);
			expect(diskOf(report, one)).toMatchObject({ achieved: "none", because: ["snapshot-failed"] });
			expect(diskOf(report, other)).toMatchObject({ achieved: "file-system", because: [] });
		});

		test("before everything was frozen: that snapshot was outside of the window", async () => {
			const other = await make("ext4");
			const host = await start([one, other], { acceptLevel: "crash" });
			await host.event("prepared");
			taken(host, nameOf(one));
			await toFrozen(host);
			await untilHeard(host, 1);
			expect(await isHeld(one)).toBe(true);
			const report = await takeSnapshot(host, [one, other]);
			expect(diskOf(report, one)).toMatchObject({ achieved: "crash", because: ["snapshot-outside-window"] });
			expect(diskOf(report, other)).toMatchObject({ achieved: "file-system" });
		});

		test("in a job whose asker does not tell of snapshots", async () => {
			const other = await make("ext4");
			const host = await start([one, other], { snapshot: "unknown" });
			expect((await host.event("prepared")).perDisk).toBeUndefined();
			await toFrozen(host);
			taken(host, nameOf(one));
			await sleep(50);
			expect(await isHeld(one)).toBe(true);
			host.tell({ type: "release", jobId: host.jobId });
			expect(await host.report()).toMatchObject({ achieved: null, held: "file-system" });
		});

		test("while another disk is still to be taken that is not held whole", async () => {
			const other = await make("ext4");
			const request = { fileSystems: { include: [], exclude: [{ mountPoint: other.mountPoint }] } };
			const host = await start([one, other], { acceptLevel: "crash" }, { request });
			await toFrozen(host);
			taken(host, nameOf(one));
			await untilHeard(host, 1);
			expect(await isHeld(one)).toBe(true);
			taken(host, nameOf(other));
			await untilWritable(one);
			const report = await takeSnapshot(host, [one, other]);
			expect(diskOf(report, one)).toMatchObject({ achieved: "file-system", because: [] });
			expect(diskOf(report, other)).toMatchObject({ achieved: "crash", because: ["excluded-by-config"] });
		});
	});

	test("what was let go stays let go when done contradicts it, and the disk is worth nothing", async () => {
		const other = await make("ext4");
		const host = await start([one, other], { acceptLevel: "crash" });
		await toFrozen(host);
		taken(host, nameOf(one));
		await untilWritable(one);
		const disks = [
			{ name: nameOf(one), ok: false, error: "it failed after all" },
			{ name: nameOf(other), ok: true, snapshotId: "s", provider: "test" },
		];
		host.tell({ type: "done", jobId: host.jobId, disks });
		host.tell({ type: "described", jobId: host.jobId, disks: [] });
		const report = await host.report();
		expect(report.achieved).toBe("none");
		expect(diskOf(report, one)).toMatchObject({ achieved: "none", because: ["snapshot-failed"] });
		expect(report.error?.code).toBe("snapshot-failed");
	});

	test("a word after done changes nothing", async () => {
		const other = await make("ext4");
		const host = await start([one, other]);
		await toFrozen(host);
		const reporting = takeSnapshot(host, [one, other]);
		taken(host, nameOf(one), { ok: false });
		expect(await reporting).toMatchObject({ achieved: "file-system", because: [] });
	});

	test("an asker that is lost after the first disk leaves nothing frozen", async () => {
		const other = await make("ext4");
		const host = await start([one, other]);
		await toFrozen(host);
		taken(host, nameOf(one));
		await untilWritable(one);
		host.tell({ type: "cancel", jobId: host.jobId, code: "asker-lost" });
		const report = await host.report();
		expect(report).toMatchObject({ achieved: "none", error: { code: "asker-lost" } });
		expect(report.fileSystems.map(({ result }) => result)).toEqual(["thawed", "thawed"]);
		expect(await isWritable(other)).toBe(true);
	});

	test("a freezer that is killed after the first disk: the rest is thawed, and what was let go is left alone", async () => {
		const other = await make("ext4");
		const host = await start([one, other]);
		await toFrozen(host);
		taken(host, nameOf(one));
		await untilWritable(one);
		await freeze(one.mountPoint);
		process.kill(await host.freezerPid(), "SIGKILL");
		await host.event("thawed");
		expect(await isWritable(other)).toBe(true);
		expect(await thaw(one.mountPoint), "the foreign freeze of what was let go").toBe(true);
		expect((await host.report()).error?.code).toBe("freezer-died");
	});
});

/** Appends ascending numbers, each on the disk before the next. */
function startCounting(path: string): { end(): Promise<void> } {
	const program = `
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
count = 0
while True:
    count += 1
    os.write(fd, b"%d\\n" % count)
    os.fdatasync(fd)
`;
	const child = spawn("python3", ["-c", program, path], { stdio: "ignore", cwd: "/" });
	const gone = once(child, "exit");
	return {
		async end() {
			child.kill("SIGKILL");
			await gone;
		},
	};
}

async function lastNumber(path: string): Promise<number> {
	const text = await readFile(path, "utf8").catch(() => "");
	return Number(text.trimEnd().split("\n").at(-1) ?? 0);
}
