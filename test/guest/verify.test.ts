import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Finding, Verification } from "../../contracts/verification.ts";
import { verificationSchema } from "../../contracts/verification.ts";
import { verifyRecoveryPoint } from "../../controller/verify/verify-recovery-point.ts";
import { startBusyWriter } from "../fixtures/busy-writer.ts";
import type { HeldFileSystem, Hold } from "../fixtures/held-recovery-point.ts";
import { copyImage, copyPart, hold, writeManifest } from "../fixtures/held-recovery-point.ts";
import type { LoopFileSystem, LoopFileSystemOptions } from "../fixtures/loop-file-system.ts";
import { attachLoop, makeLoopFileSystem, requireTools, startGuard, unmount } from "../fixtures/loop-file-system.ts";

const parent = "/var/lib";
const sizeMiB = 320;
let dir = "";
let guard: Disposable | undefined;
let count = 0;

beforeAll(async () => {
	if (requireTools("root")) return;
	dir = await mkdtemp(join(parent, "stillpoint-test-verify-"));
	guard = startGuard({ dir, limitMs: 600_000 });
});

afterAll(async () => {
	guard?.[Symbol.dispose]();
	if (dir) await rm(dir, { recursive: true, force: true });
});

type Kind = { fsType: "ext4" | "xfs" | "btrfs"; devices: number; tools: string[] };
const kinds: Kind[] = [
	{ fsType: "ext4", devices: 1, tools: ["mkfs.ext4", "e2fsck"] },
	{ fsType: "xfs", devices: 1, tools: ["mkfs.xfs", "xfs_repair"] },
	{ fsType: "btrfs", devices: 1, tools: ["mkfs.btrfs", "btrfs"] },
	{ fsType: "btrfs", devices: 2, tools: ["mkfs.btrfs", "btrfs"] },
];

for (const { fsType, devices, tools } of kinds) {
	const missing = requireTools("root", "fsfreeze", ...tools);
	const title = devices > 1 ? `${fsType} on ${devices} devices` : fsType;
	describe.skipIf(missing)(missing ? `${title}: ${missing}` : title, () => {
		test("frozen copies under load agree with their label, again and again, and are not changed", async () => {
			await using one = await busy({ fsType, devices });
			for (let round = 0; round < 3; round += 1) {
				await sleep(200 + round * 150);
				const folder = await newFolder();
				const held = await hold([one], () => copyAll(one, folder));
				await writeManifest(folder, disksOf(one), held);
				const before = round === 0 ? await hashAll(one, folder) : undefined;
				const verification = await verify(folder);
				expect(complaints(verification)).toEqual([]);
				expect(verification).toMatchObject({ looksLike: "file-system", agrees: true });
				expect(checksOf(verification)).toEqual(expect.arrayContaining(["structure", "files", "database"]));
				if (before) expect(await hashAll(one, folder)).toEqual(before);
				await rm(folder, { recursive: true });
			}
		});

		test("a live copy under load, with no freeze, is found", async () => {
			await using one = await busy({ fsType, devices });
			const folder = await newFolder();
			await copyAll(one, folder);
			const held = await hold([one], async () => undefined);
			await writeManifest(folder, disksOf(one), held);
			const verification = await verify(folder);
			expect(verification).toMatchObject({ looksLike: "crash", agrees: false });
			// A copy that began just after a commit has no log tree, but tree blocks that are newer than its superblock.
			expect(failed(verification).filter((check) => check === "still" || check === "torn")).not.toEqual([]);
		});

		test("a live copy that is labelled crash is no lie", async () => {
			await using one = await busy({ fsType, devices });
			const folder = await newFolder();
			await copyAll(one, folder);
			const held = await hold([one], async () => undefined);
			await writeManifest(folder, disksOf(one), held, "crash");
			expect(await verify(folder)).toMatchObject({ looksLike: "crash", agrees: true });
		});

		test("a copy of another hold is found by its marker", async () => {
			await using one = await busy({ fsType, devices });
			const folder = await newFolder();
			await hold([one], () => copyAll(one, folder));
			const held = await hold([one], async () => undefined);
			await writeManifest(folder, disksOf(one), held);
			const verification = await verify(folder);
			expect(verification).toMatchObject({ looksLike: "crash", agrees: false });
			expect(failed(verification)).toEqual(["same-instant"]);
		});

		test.each(["front to back", "back to front"])(
			"a thaw half-way through the copy is found: %s",
			async (direction) => {
				await using one = await busy({ fsType, devices });
				const folder = await newFolder();
				// The front holds superblock and marker; behind the first tenth lie journal, log and mirrors.
				const firstMiB = direction === "front to back" ? sizeMiB / 10 : 0;
				const held = await hold([one], async (thawEarly) => {
					await copyAll(one, folder);
					await thawEarly();
					await sleep(500);
					await execa("sync", ["--file-system", one.mountPoint]);
					const countMiB = direction === "front to back" ? sizeMiB - firstMiB : sizeMiB / 2;
					for (const [index, from] of one.imagePaths.entries()) {
						await copyPart(from, join(folder, `disk${index}.img`), firstMiB, countMiB);
					}
				});
				await writeManifest(folder, disksOf(one), held);
				const verification = await verify(folder);
				expect(verification, said(verification)).toMatchObject({ looksLike: "crash", agrees: false });
			},
		);
	});
}

const ext4Missing = requireTools("root", "fsfreeze", "mkfs.ext4", "e2fsck");
describe.skipIf(ext4Missing)(ext4Missing ? `several disks: ${ext4Missing}` : "several disks", () => {
	test("disks of one hold agree; swapped images, and disks of two holds, are found", async () => {
		await using one = await busy({ fsType: "ext4" });
		await using two = await busy({ fsType: "ext4" });
		const folder = await newFolder();
		const disks = [
			{ name: "one", image: "one.img", fileSystems: [one] },
			{ name: "two", image: "two.img", fileSystems: [two] },
		];
		const held = await hold([one, two], async () => {
			await copyImage(one.imagePath, join(folder, "one.img"));
			await copyImage(two.imagePath, join(folder, "two.img"));
		});
		await writeManifest(folder, disks, held);
		expect(await verify(folder)).toMatchObject({ looksLike: "file-system", agrees: true });

		await rename(join(folder, "one.img"), join(folder, "x"));
		await rename(join(folder, "two.img"), join(folder, "one.img"));
		await rename(join(folder, "x"), join(folder, "two.img"));
		const swapped = await verify(folder);
		expect(swapped).toMatchObject({ looksLike: "crash", agrees: false });
		expect(failed(swapped)).toEqual(["mapping", "mapping"]);

		const later = await hold([one, two], () => copyImage(one.imagePath, join(folder, "one.img")));
		await copyImage(join(folder, "one.img"), join(folder, "two.img.keep"));
		const other = await hold([one, two], () => copyImage(two.imagePath, join(folder, "two.img")));
		await writeManifest(folder, disks, other);
		const mixed = await verify(folder);
		expect(mixed).toMatchObject({ looksLike: "crash", agrees: false });
		expect(mixed.findings.filter(isFailure).map(({ disk, check }) => `${disk} ${check}`)).toEqual(["one same-instant"]);

		await writeManifest(folder, disks, withoutMarkers(later, new Date(Date.now() + 60_000)));
		expect(failed(await verify(folder)), "by ext4's own time when there is no marker").toContain("same-instant");
	});

	test("without markers a copy inside the window passes by ext4's own time", async () => {
		await using one = await busy({ fsType: "ext4" });
		const folder = await newFolder();
		const held = await hold([one], () => copyAll(one, folder));
		await writeManifest(folder, disksOf(one), { ...held, markers: new Map() });
		expect(await verify(folder)).toMatchObject({ looksLike: "file-system", agrees: true });
	});

	test("an image in a partition is looked at where it lies", async () => {
		await using one = await busy({ fsType: "ext4" });
		const folder = await newFolder();
		const held = await hold([one], () => copyAll(one, folder));
		await intoPartition(join(folder, "disk0.img"));
		const manifest = await writeManifest(folder, disksOf(one), held);
		expect(manifest.disks[0]?.identity.fileSystems).toMatchObject([{ offsetBytes: 1 << 20, uuid: one.uuid }]);
		const verification = await verify(folder);
		expect(complaints(verification)).toEqual([]);
		expect(verification).toMatchObject({ looksLike: "file-system", agrees: true });
	});
});

describe.skipIf(ext4Missing)(ext4Missing ? `damage: ${ext4Missing}` : "damage", () => {
	test("a truncated, a missing and a linked image are found, whatever the label", async () => {
		await using one = await busy({ fsType: "ext4" });
		const folder = await newFolder();
		const image = join(folder, "disk0.img");
		const held = await hold([one], () => copyAll(one, folder));
		await writeManifest(folder, disksOf(one), held, "crash");
		await truncate(image, (sizeMiB - 100) << 20);
		expect(await verify(folder)).toMatchObject({ looksLike: "crash", agrees: false });
		await truncate(image, 3000);
		expect(await verify(folder)).toMatchObject({ agrees: false });
		await rm(image);
		expect(await verify(folder)).toMatchObject({ looksLike: "none", agrees: false });
		await execa("ln", ["-s", one.imagePath, image]);
		expect(await verify(folder)).toMatchObject({ looksLike: "none", agrees: false });
	});

	test("a torn database is found, though the file system is what a freeze leaves", async () => {
		await using one = await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB, name: nextName() });
		{
			await using _writer = await startBusyWriter(one.mountPoint);
			await sleep(300);
		}
		await execa("node", ["-e", checkpoint, join(one.mountPoint, "ledger.db")]);
		const folder = await newFolder();
		const whole = await hold([one], () => copyAll(one, folder));
		await writeManifest(folder, disksOf(one), whole, "application");
		expect(await verify(folder)).toMatchObject({ looksLike: "file-system", agrees: true });

		const database = await open(join(one.mountPoint, "ledger.db"), "r+");
		await database.write(Buffer.alloc(8192, 0x5a), 0, 8192, 8192);
		await database.close();
		const torn = await hold([one], () => copyAll(one, folder));
		await writeManifest(folder, disksOf(one), torn, "application");
		const verification = await verify(folder);
		expect(verification).toMatchObject({ looksLike: "file-system", agrees: false });
		expect(failed(verification)).toEqual(["database"]);
	});

	test("a verification that is aborted at any moment ends, and leaves no mount, loop device or file", async () => {
		await using one = await busy({ fsType: "ext4" });
		const folder = await newFolder();
		const scratchDir = await newFolder();
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
		const folder = await newFolder();
		await expect(verify(folder)).rejects.toMatchObject({ code: "recovery-point-invalid" });
		await writeFile(join(folder, "manifest.json"), '{"schemaVersion":1,');
		await expect(verify(folder)).rejects.toMatchObject({ code: "recovery-point-invalid" });
		await writeFile(join(folder, "manifest.json"), '{"schemaVersion":1}');
		await expect(verify(folder)).rejects.toMatchObject({ code: "recovery-point-invalid" });
		await expect(readFile(join(folder, "verification.json"))).rejects.toMatchObject({ code: "ENOENT" });
	});
});

const btrfsMissing = requireTools("root", "fsfreeze", "mkfs.btrfs", "btrfs");
describe.skipIf(btrfsMissing)(btrfsMissing ? `btrfs members: ${btrfsMissing}` : "btrfs members", () => {
	test("a member of another time, and a member that is not there, are found", async () => {
		await using one = await busy({ fsType: "btrfs", devices: 2 });
		const folder = await newFolder();
		await hold([one], () => copyAll(one, folder));
		await sleep(300);
		const [first] = one.imagePaths as [string];
		const held = await hold([one], () => copyImage(first, join(folder, "disk0.img")));
		await writeManifest(folder, disksOf(one), held);
		const mixed = await verify(folder);
		expect(mixed).toMatchObject({ looksLike: "crash", agrees: false });
		expect(failed(mixed)).toContain("members");

		await writeManifest(folder, disksOf(one).slice(0, 1), held);
		const alone = await verify(folder);
		expect(alone).toMatchObject({ looksLike: "crash", agrees: false });
		expect(failed(alone)).toContain("members");
	});

	test("the marker is found in a subvolume", async () => {
		await using one = await makeLoopFileSystem({ dir, fsType: "btrfs", sizeMiB, name: nextName() });
		await execa("btrfs", ["subvolume", "create", join(one.mountPoint, "@home")]);
		const folder = await newFolder();
		const inSubvolume = { ...one, mountPoint: join(dir, nextName()) };
		await mkdir(inSubvolume.mountPoint);
		await execa("mount", ["-t", "btrfs", "-o", "subvol=@home", one.device, inSubvolume.mountPoint]);
		try {
			const held = await hold([inSubvolume], () => copyAll(one, folder));
			await writeManifest(folder, [{ name: "disk0", image: "disk0.img", fileSystems: [inSubvolume] }], held);
		} finally {
			await unmount(inSubvolume.mountPoint);
		}
		expect(await verify(folder)).toMatchObject({ looksLike: "file-system", agrees: true });
	});
});

describe.skipIf(ext4Missing)(ext4Missing ? `nested: ${ext4Missing}` : "a file system in a file of another one", () => {
	test("both are verified; an inner one that was not frozen is found", async () => {
		await using outer = await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB, name: nextName() });
		await using inner = await nestedIn(outer);
		await using _writer = await startBusyWriter(join(inner.mountPoint, "w"));
		const folder = await newFolder();
		const disks = [{ name: "disk0", image: "disk0.img", fileSystems: [outer] }];
		const held = await hold([inner, outer], () => copyAll(outer, folder));
		const manifest = await writeManifest(folder, [{ ...disks[0], fileSystems: [outer, inner] } as never], held);
		expect(manifest.report.fileSystems).toHaveLength(2);
		const verification = await verify(folder);
		expect(complaints(verification)).toEqual([]);
		expect(verification).toMatchObject({ looksLike: "file-system", agrees: true });
		expect(verification.findings.some(({ fileSystem }) => fileSystem === `${inner.uuid} in /inner.img`)).toBe(true);

		const outerOnly = await hold([outer], () => copyAll(outer, folder));
		await writeManifest(folder, [{ ...disks[0], fileSystems: [outer, inner] } as never], outerOnly);
		const live = await verify(folder);
		expect(live).toMatchObject({ looksLike: "crash", agrees: false });
		expect(live.findings.filter(isFailure).map(({ fileSystem }) => fileSystem)).toContain(
			`${inner.uuid} in /inner.img`,
		);
	});
});

test.skipIf(requireTools("root"))("nothing is left behind", async () => {
	await expect.poll(() => loopFiles(dir)).toEqual([]);
	expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(dir);
});

async function loopFiles(...below: string[]): Promise<string[]> {
	const { stdout } = await execa("losetup", ["--list", "--noheadings", "--output", "BACK-FILE"]);
	return stdout.split("\n").filter((file) => below.some((folder) => file.startsWith(folder)));
}

async function busy(options: Pick<LoopFileSystemOptions, "fsType" | "devices">): Promise<LoopFileSystem> {
	await using undo = new AsyncDisposableStack();
	const one = undo.use(await makeLoopFileSystem({ dir, sizeMiB, name: nextName(), ...options }));
	for (const name of ["a", "b"]) undo.use(await startBusyWriter(join(one.mountPoint, name)));
	await sleep(300);
	const owned = undo.move();
	return { ...one, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function nestedIn(outer: LoopFileSystem): Promise<HeldFileSystem & AsyncDisposable> {
	await using undo = new AsyncDisposableStack();
	const image = join(outer.mountPoint, "inner.img");
	await writeFile(image, "");
	await truncate(image, 64 << 20);
	await execa("mkfs.ext4", ["-q", "-F", image]);
	const device = await attachLoop(image);
	undo.defer(async () => void (await execa("losetup", ["--detach", device], { reject: false })));
	const mountPoint = join(dir, nextName());
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

async function copyAll(one: Pick<LoopFileSystem, "imagePaths">, folder: string): Promise<void> {
	for (const [index, from] of one.imagePaths.entries()) await copyImage(from, join(folder, `disk${index}.img`));
}

function disksOf(one: LoopFileSystem) {
	return one.imagePaths.map((_, index) => ({ name: `disk${index}`, image: `disk${index}.img`, fileSystems: [one] }));
}

async function verify(folder: string): Promise<Verification> {
	const verification = await verifyRecoveryPoint(folder, { scratchDir: dir, signal: AbortSignal.timeout(100_000) });
	const written = verificationSchema.parse(JSON.parse(await readFile(join(folder, "verification.json"), "utf8")));
	expect(written).toEqual(verification);
	return verification;
}

async function hashAll(one: LoopFileSystem, folder: string): Promise<string[]> {
	return Promise.all(
		one.imagePaths.map(async (_, index) => {
			const hash = createHash("sha256");
			await pipeline(createReadStream(join(folder, `disk${index}.img`)), hash);
			return hash.digest("hex");
		}),
	);
}

function isFailure({ status }: Finding): boolean {
	return status === "fail";
}

function failed(verification: Verification): string[] {
	return verification.findings.filter(isFailure).map(({ check }) => check);
}

function complaints(verification: Verification): string[] {
	return verification.findings
		.filter(({ status }) => status !== "pass")
		.map(({ check, status, detail }) => `${check} ${status}: ${detail}`);
}

function said(verification: Verification): string {
	return verification.findings
		.map(({ disk, check, status, detail }) => `${disk} ${check} ${status}: ${detail}`)
		.join("\n");
}

function checksOf(verification: Verification): string[] {
	return verification.findings.map(({ check }) => check);
}

async function newFolder(): Promise<string> {
	const folder = join(dir, nextName());
	await mkdir(folder);
	return folder;
}

function nextName(): string {
	count += 1;
	return `n${count}`;
}
