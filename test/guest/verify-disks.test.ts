/** Several disks of ext4, damage, and a file system in a file of another one. */
import { mkdir, open, readdir, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { verifyRecoveryPoint } from "../../controller/verify/verify-recovery-point.ts";
import { startBusyWriter } from "../fixtures/busy-writer.ts";
import type { HeldFileSystem, Hold } from "../fixtures/held-recovery-point.ts";
import { copyImage, hold, writeManifest } from "../fixtures/held-recovery-point.ts";
import type { LoopFileSystem } from "../fixtures/loop-file-system.ts";
import { attachLoop, makeLoopFileSystem, requireTools, unmount } from "../fixtures/loop-file-system.ts";
import {
	complaints,
	copyAll,
	disksOf,
	failed,
	isFailure,
	loopFiles,
	sizesMiB,
	testNothingIsLeft,
	useVerifyBench,
} from "../fixtures/verify-bench.ts";

const bench = useVerifyBench();
const sizeMiB = sizesMiB.ext4;

const ext4Missing = requireTools("root", "fsfreeze", "mkfs.ext4", "e2fsck");
describe.skipIf(ext4Missing)(ext4Missing ? `several disks: ${ext4Missing}` : "several disks", () => {
	test("disks of one hold agree; swapped images, and disks of two holds, are found", async () => {
		await using one = await bench.busy({ fsType: "ext4" });
		await using two = await bench.busy({ fsType: "ext4" });
		const folder = await bench.newFolder();
		const disks = [
			{ name: "one", image: "one.img", fileSystems: [one] },
			{ name: "two", image: "two.img", fileSystems: [two] },
		];
		const held = await hold([one, two], async () => {
			await copyImage(one.imagePath, join(folder, "one.img"));
			await copyImage(two.imagePath, join(folder, "two.img"));
		});
		await writeManifest(folder, disks, held);
		expect(await bench.verify(folder)).toMatchObject({ looksLike: "file-system", agrees: true });

		await rename(join(folder, "one.img"), join(folder, "x"));
		await rename(join(folder, "two.img"), join(folder, "one.img"));
		await rename(join(folder, "x"), join(folder, "two.img"));
		const swapped = await bench.verify(folder);
		expect(swapped).toMatchObject({ looksLike: "crash", agrees: false });
		expect(failed(swapped)).toEqual(["mapping", "mapping"]);

		const later = await hold([one, two], () => copyImage(one.imagePath, join(folder, "one.img")));
		await copyImage(join(folder, "one.img"), join(folder, "two.img.keep"));
		const other = await hold([one, two], () => copyImage(two.imagePath, join(folder, "two.img")));
		await writeManifest(folder, disks, other);
		const mixed = await bench.verify(folder);
		expect(mixed).toMatchObject({ looksLike: "crash", agrees: false });
		expect(mixed.findings.filter(isFailure).map(({ disk, check }) => `${disk} ${check}`)).toEqual(["one same-instant"]);

		await writeManifest(folder, disks, withoutMarkers(later, new Date(Date.now() + 60_000)));
		expect(failed(await bench.verify(folder)), "by ext4's own time when there is no marker").toContain("same-instant");
	});

	test("without markers a copy inside the window passes by ext4's own time", async () => {
		await using one = await bench.busy({ fsType: "ext4" });
		const folder = await bench.newFolder();
		const held = await hold([one], () => copyAll(one, folder));
		await writeManifest(folder, disksOf(one), { ...held, markers: new Map() });
		expect(await bench.verify(folder)).toMatchObject({ looksLike: "file-system", agrees: true });
	});

	test("an image in a partition is looked at where it lies", async () => {
		await using one = await bench.busy({ fsType: "ext4" });
		const folder = await bench.newFolder();
		const held = await hold([one], () => copyAll(one, folder));
		await intoPartition(join(folder, "disk0.img"));
		const manifest = await writeManifest(folder, disksOf(one), held);
		expect(manifest.disks[0]?.identity.fileSystems).toMatchObject([{ offsetBytes: 1 << 20, uuid: one.uuid }]);
		const verification = await bench.verify(folder);
		expect(complaints(verification)).toEqual([]);
		expect(verification).toMatchObject({ looksLike: "file-system", agrees: true });
	});
});

describe.skipIf(ext4Missing)(ext4Missing ? `damage: ${ext4Missing}` : "damage", () => {
	test("a truncated, a missing and a linked image are found, whatever the label", async () => {
		await using one = await bench.busy({ fsType: "ext4" });
		const folder = await bench.newFolder();
		const image = join(folder, "disk0.img");
		const held = await hold([one], () => copyAll(one, folder));
		await writeManifest(folder, disksOf(one), held, "crash");
		await truncate(image, (sizeMiB / 2) << 20);
		expect(await bench.verify(folder)).toMatchObject({ looksLike: "crash", agrees: false });
		await truncate(image, 3000);
		expect(await bench.verify(folder)).toMatchObject({ agrees: false });
		await rm(image);
		expect(await bench.verify(folder)).toMatchObject({ looksLike: "none", agrees: false });
		await execa("ln", ["-s", one.imagePath, image]);
		expect(await bench.verify(folder)).toMatchObject({ looksLike: "none", agrees: false });
	});

	test("a torn database is found, though the file system is what a freeze leaves", async () => {
		await using one = await makeLoopFileSystem({ dir: bench.dir, fsType: "ext4", sizeMiB, name: bench.nextName() });
		{
			await using _writer = await startBusyWriter(one.mountPoint);
			await sleep(300);
		}
		await execa("node", ["-e", checkpoint, join(one.mountPoint, "ledger.db")]);
		const folder = await bench.newFolder();
		const whole = await hold([one], () => copyAll(one, folder));
		await writeManifest(folder, disksOf(one), whole, "application");
		expect(await bench.verify(folder)).toMatchObject({ looksLike: "file-system", agrees: true });

		const database = await open(join(one.mountPoint, "ledger.db"), "r+");
		await database.write(Buffer.alloc(8192, 0x5a), 0, 8192, 8192);
		await database.close();
		const torn = await hold([one], () => copyAll(one, folder));
		await writeManifest(folder, disksOf(one), torn, "application");
		const verification = await bench.verify(folder);
		expect(verification).toMatchObject({ looksLike: "file-system", agrees: false });
		expect(failed(verification)).toEqual(["database"]);
	});

	test("a verification that is aborted at any moment ends, and leaves no mount, loop device or file", async () => {
		await using one = await bench.busy({ fsType: "ext4" });
		const folder = await bench.newFolder();
		const scratchDir = await bench.newFolder();
		const held = await hold([one], () => copyAll(one, folder));
		await writeManifest(folder, disksOf(one), held);
		for (const afterMs of [0, 20, 60, 100, 150, 200, 250]) {
			const signal = AbortSignal.timeout(afterMs);
			await verifyRecoveryPoint(folder, { scratchDir, signal }).catch((error: unknown) => {
				expect(signal.aborted, String(error)).toBe(true);
			});
			expect(await readdir(scratchDir)).toEqual([]);
			expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(scratchDir);
			await expect.poll(() => loopFiles(folder, scratchDir)).toEqual([]);
		}
	});

	test("a corrupted or missing manifest is refused with its code, and nothing is written", async () => {
		const folder = await bench.newFolder();
		await expect(bench.verify(folder)).rejects.toMatchObject({ code: "recovery-point-invalid" });
		await writeFile(join(folder, "manifest.json"), '{"schemaVersion":1,');
		await expect(bench.verify(folder)).rejects.toMatchObject({ code: "recovery-point-invalid" });
		await writeFile(join(folder, "manifest.json"), '{"schemaVersion":1}');
		await expect(bench.verify(folder)).rejects.toMatchObject({ code: "recovery-point-invalid" });
		await expect(readFile(join(folder, "verification.json"))).rejects.toMatchObject({ code: "ENOENT" });
	});
});

describe.skipIf(ext4Missing)(ext4Missing ? `nested: ${ext4Missing}` : "a file system in a file of another one", () => {
	test("both are verified; an inner one that was not frozen is found", async () => {
		await using outer = await makeLoopFileSystem({ dir: bench.dir, fsType: "ext4", sizeMiB, name: bench.nextName() });
		await using inner = await nestedIn(outer);
		await using _writer = await startBusyWriter(join(inner.mountPoint, "w"));
		const folder = await bench.newFolder();
		const disks = [{ name: "disk0", image: "disk0.img", fileSystems: [outer] }];
		const held = await hold([inner, outer], () => copyAll(outer, folder));
		const manifest = await writeManifest(folder, [{ ...disks[0], fileSystems: [outer, inner] } as never], held);
		expect(manifest.report.fileSystems).toHaveLength(2);
		const verification = await bench.verify(folder);
		expect(complaints(verification)).toEqual([]);
		expect(verification).toMatchObject({ looksLike: "file-system", agrees: true });
		expect(verification.findings.some(({ fileSystem }) => fileSystem === `${inner.uuid} in /inner.img`)).toBe(true);

		const outerOnly = await hold([outer], () => copyAll(outer, folder));
		await writeManifest(folder, [{ ...disks[0], fileSystems: [outer, inner] } as never], outerOnly);
		const live = await bench.verify(folder);
		expect(live).toMatchObject({ looksLike: "crash", agrees: false });
		expect(live.findings.filter(isFailure).map(({ fileSystem }) => fileSystem)).toContain(
			`${inner.uuid} in /inner.img`,
		);
	});
});

testNothingIsLeft(bench);

async function nestedIn(outer: LoopFileSystem): Promise<HeldFileSystem & AsyncDisposable> {
	await using undo = new AsyncDisposableStack();
	const image = join(outer.mountPoint, "inner.img");
	await writeFile(image, "");
	await truncate(image, 64 << 20);
	await execa("mkfs.ext4", ["-q", "-F", image]);
	const device = await attachLoop(image);
	undo.defer(async () => void (await execa("losetup", ["--detach", device], { reject: false })));
	const mountPoint = join(bench.dir, bench.nextName());
	await mkdir(mountPoint);
	await execa("mount", [device, mountPoint]);
	undo.defer(() => unmount(mountPoint));
	const uuid = (await execa("blkid", ["-p", "-s", "UUID", "-o", "value", device])).stdout.trim();
	const owned = undo.move();
	return { mountPoint, device, uuid, fsType: "ext4", [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The same bytes, one MiB further, behind an MBR with one partition. */
async function intoPartition(image: string): Promise<void> {
	const mbr = Buffer.alloc(512);
	mbr.writeUInt8(0x83, 450);
	mbr.writeUInt32LE(2048, 454);
	mbr.writeUInt32LE(sizeMiB * 2048, 458);
	mbr.writeUInt16LE(0xaa55, 510);
	await rename(image, `${image}.whole`);
	await writeFile(image, mbr);
	await execa("dd", [`if=${image}.whole`, `of=${image}`, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none"]);
	await truncate(image, (sizeMiB + 1) << 20);
	await rm(`${image}.whole`);
}

const checkpoint = `const { DatabaseSync } = require("node:sqlite");
	const database = new DatabaseSync(process.argv[1]);
	database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
	database.close();`;

function withoutMarkers(held: Hold, at: Date): Hold {
	return { ...held, markers: new Map(), frozenAt: at.toISOString(), thawedAt: at.toISOString() };
}
