import assert from "node:assert/strict";
import { closeSync, fstatSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import * as fc from "fast-check";
import { readBtrfsSuperblocks } from "../../../controller/verify/btrfs-check.ts";
import { crc32c, rawCrc32c } from "../../../controller/verify/crc32c.ts";
import { parsePageSize, parseVersion } from "../../../controller/verify/databases/mariadb-files.ts";
import { judgeServer, parseChecks } from "../../../controller/verify/databases/mariadb-judgement.ts";
import { parseControlFile } from "../../../controller/verify/databases/postgresql-control.ts";
import { judgeCluster, parseComplaints } from "../../../controller/verify/databases/postgresql-judgement.ts";
import { judgeRedis } from "../../../controller/verify/databases/redis.ts";
import { judgeAnswer } from "../../../controller/verify/databases/sqlite-check.ts";
import { parseSteps } from "../../../controller/verify/databases/step-output.ts";
import { checkExt4, readExt4State } from "../../../controller/verify/ext4-check.ts";
import { findFileSystems } from "../../../controller/verify/image-identity.ts";
import { findNewerBtrfsMetadata, findNewerXfsMetadata } from "../../../controller/verify/newer-metadata.ts";
import { parseGptHeader, parseMbr } from "../../../controller/verify/partition-table.ts";
import type { RawReader } from "../../../controller/verify/raw-image.ts";
import { btrfsChecksum, parseBtrfsSuperblock, withFsid } from "../../../controller/verify/superblock-btrfs.ts";
import { parseExt4Superblock } from "../../../controller/verify/superblock-ext4.ts";
import { parseOtherSignature } from "../../../controller/verify/superblock-other.ts";
import { parseXfsSuperblock } from "../../../controller/verify/superblock-xfs.ts";
import { checkXfs, readXfsLogState } from "../../../controller/verify/xfs-check.ts";
import { findPartitionOffsets, readBlobIdentity } from "../../../extensions/vm-snapshot-linux/azure/blob-identity.ts";
import { parseSuperblockFacts } from "../../../platform/linux/superblock-uuid.ts";
import { btrfsSuperblock, ext4Superblock, xfsSuperblock } from "../../fixtures/superblock-bytes.ts";
import { type FuzzTarget, fuzzTarget, neverThrows } from "../fuzz-target.ts";
import { hostileText } from "../inputs/hostile-values.ts";
import { mutatedBytes } from "../inputs/mutated-bytes.ts";
import { mutatedJson } from "../inputs/mutated-json.ts";
import { mutatedText } from "../inputs/mutated-text.ts";
import { databaseOutputs } from "../samples/database-outputs.ts";

const never = new AbortController().signal;

/** Bytes of guests: superblocks, partition tables, journals, files of databases, and what checkers say of them. */
export function imageTargets(folder: string): FuzzTarget[] {
	const images = openImages(join(folder, ".."));
	const heads = images.map((image) => image.bytes(0, 128 * 1024));
	const ext4s = [ext4Superblock(), ...heads.map((head) => head.subarray(1024, 2048))];
	const xfss = [xfsSuperblock(), ...heads.map((head) => head.subarray(0, 512))];
	const btrfss = [
		btrfsSuperblock(),
		btrfsSuperblock({ checksumType: 2 }),
		...heads.map((head) => head.subarray(65_536, 69_632)),
	];
	const total = { mayThrow: neverThrows } as const;
	return [
		fuzzTarget({
			...total,
			name: "ext4-superblock",
			parser: "controller/verify/superblock-ext4.ts parseExt4Superblock",
			inputs: mutatedBytes(ext4s, {
				mend: (bytes) =>
					void (bytes.length >= 1024 && bytes.writeUInt32LE(rawCrc32c(0xffffffff, bytes.subarray(0, 0x3fc)), 0x3fc)),
			}),
			run: (bytes) => {
				const found = parseExt4Superblock(bytes);
				if (found !== undefined) assert.ok(found.blockSizeBytes >= 1024 && found.blockSizeBytes <= 65_536);
			},
		}),
		fuzzTarget({
			...total,
			name: "xfs-superblock",
			parser: "controller/verify/superblock-xfs.ts parseXfsSuperblock",
			inputs: mutatedBytes(xfss, { mend: mendXfs }),
			run: (bytes) => {
				const found = parseXfsSuperblock(bytes);
				if (found !== undefined) assert.ok(found.logSizeBytes >= 0 && (found.logOffsetBytes ?? 0) >= 0);
			},
		}),
		fuzzTarget({
			...total,
			name: "btrfs-superblock",
			parser: "controller/verify/superblock-btrfs.ts parseBtrfsSuperblock, withFsid",
			inputs: mutatedBytes(btrfss, { places: [[0x20, 0x120]], mend: mendBtrfs }),
			run: (bytes) => {
				if (parseBtrfsSuperblock(bytes) === undefined) return;
				const fsid = Buffer.alloc(16, 7);
				const changed = withFsid(bytes, fsid);
				if (changed !== undefined) assert.equal(parseBtrfsSuperblock(changed)?.checksumOk, true);
			},
		}),
		fuzzTarget({
			...total,
			name: "superblock-facts",
			parser: "platform/linux/superblock-uuid.ts parseSuperblockFacts; verify/superblock-other.ts parseOtherSignature",
			inputs: mutatedBytes([...heads.map((head) => head.subarray(0, 8192)), ...otherHeads()], {
				places: [
					[0, 48],
					[1024, 1300],
					[4080, 4100],
				],
			}),
			run: (bytes) => {
				parseSuperblockFacts(bytes);
				parseOtherSignature(bytes);
			},
		}),
		fuzzTarget({
			...total,
			name: "partition-table",
			parser: "controller/verify/partition-table.ts, image-identity.ts findFileSystems; azure/blob-identity.ts",
			inputs: mutatedBytes(disks(heads), {
				places: [
					[446, 512],
					[512, 612],
					[1024, 1280],
				],
				mend: mendGpt,
			}),
			run: async (bytes) => {
				const reader = readerOf(bytes);
				parseGptHeader(bytes.subarray(512, 1024));
				parseMbr(bytes);
				for (const { offsetBytes, sizeBytes } of await findFileSystems(reader))
					assert.ok(offsetBytes >= 0 && sizeBytes > 0);
				findPartitionOffsets(bytes);
				await readBlobIdentity((offset, length) => reader.read(offset, length));
			},
		}),
		...images.flatMap((image) => journalTargets(image)),
		fuzzTarget({
			...total,
			name: "postgresql-control",
			parser: "controller/verify/databases/postgresql-control.ts parseControlFile",
			inputs: mutatedBytes([controlFile()], { places: [[0, 64]] }),
			run: (bytes) => void parseControlFile(bytes),
		}),
		fuzzTarget({
			...total,
			name: "mariadb-files",
			parser: "controller/verify/databases/mariadb-files.ts parsePageSize, parseVersion",
			inputs: mutatedBytes([tablespaceHead(), Buffer.from("10.11.14-MariaDB\n")]),
			run: (bytes) => {
				const size = parsePageSize(bytes);
				assert.ok(size === undefined || (size >= 4_096 && size <= 65_536));
				parseVersion(bytes);
			},
		}),
		fuzzTarget({
			...total,
			name: "database-checks",
			parser:
				"controller/verify/databases/step-output.ts parseSteps; postgresql-judgement.ts, mariadb-judgement.ts, redis.ts",
			inputs: mutatedText(databaseOutputs, /([\s:]+)/),
			run: (text) => {
				const steps = parseSteps(text, "MARK");
				judgeCluster(steps, { endsRecovery: false, fromBackup: true });
				judgeServer(steps);
				parseComplaints(text);
				parseChecks(text);
				const { status } = judgeRedis({ exitCode: 1, output: text });
				assert.notEqual(status, "pass");
			},
		}),
		fuzzTarget({
			...total,
			name: "sqlite-answer",
			parser: "controller/verify/databases/sqlite-check.ts judgeAnswer",
			inputs: fc.oneof(
				mutatedJson(fc.constantFrom({ error: "x" }, { integrity: ["ok"], foreignKeys: 0, tables: 2 })),
				hostileText,
			),
			run: (text) => void judgeAnswer(text),
		}),
	];
}

type Image = { readonly name: string; bytes(offset: number, length: number): Buffer; readonly sizeBytes: number };
type Patch = { readonly at: number; readonly bytes: Uint8Array };

/** Sparse files, open as long as the thread lives. */
function openImages(folder: string): Image[] {
	return readdirSync(folder)
		.filter((name) => name.endsWith(".image"))
		.sort()
		.map((name) => {
			const file = openSync(join(folder, name), "r");
			process.on("exit", () => closeSync(file));
			const sizeBytes = fstatSync(file).size;
			return {
				name: name.replace(".image", ""),
				sizeBytes,
				bytes(offset, length) {
					const buffer = Buffer.alloc(Math.max(0, Math.min(length, sizeBytes - offset)));
					return buffer.subarray(0, readSync(file, buffer, 0, buffer.length, offset));
				},
			};
		});
}

/** A read past the end is short, never an error; and one of more than the image has is never made room for. */
function patchedReader(image: Image, patches: readonly Patch[], mostBytes = image.sizeBytes): RawReader {
	const sizeBytes = Math.min(image.sizeBytes, mostBytes);
	return {
		sizeBytes,
		read: async (offset, length) => {
			if (!Number.isSafeInteger(offset) || offset < 0 || offset >= sizeBytes || length <= 0) return Buffer.alloc(0);
			// What the product's own reader would make room for.
			assert.ok(length <= 64 * 1024 * 1024, `a read of ${length} bytes at once`);
			const buffer = image.bytes(offset, Math.min(length, sizeBytes - offset));
			for (const { at, bytes } of patches) {
				const from = Math.max(at, offset);
				const until = Math.min(at + bytes.length, offset + buffer.length);
				if (from < until) buffer.set(bytes.subarray(from - at, until - at), from - offset);
			}
			return buffer;
		},
	};
}

function readerOf(bytes: Buffer): RawReader {
	return patchedReader(
		{
			name: "bytes",
			sizeBytes: bytes.length,
			bytes: (offset, length) => Buffer.from(bytes.subarray(offset, offset + length)),
		},
		[],
	);
}

/** Faults where journals, logs and trees begin, and what follows them there. */
function journalTargets(image: Image): FuzzTarget[] {
	const isXfs = image.name === "xfs";
	const isBtrfs = image.name === "btrfs";
	const xfs = parseXfsSuperblock(image.bytes(0, 512));
	const logAt = xfs?.logOffsetBytes ?? 0;
	const places: readonly number[] = isXfs
		? [0, logAt, logAt + 512, logAt + 1024]
		: isBtrfs
			? [65_536, 22_020_096, 30_408_704]
			: ext4Places(image);
	const patch: fc.Arbitrary<Patch> = fc
		.tuple(
			fc.constantFrom(...places),
			fc.nat({ max: 1_100 }),
			fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 8 }), extremes),
		)
		.map(([place, at, bytes]) => ({ at: place + at, bytes }));
	const mostBytes = isXfs ? undefined : 4 * 1024 * 1024;
	return [
		fuzzTarget({
			name: `${image.name}-metadata`,
			parser: isXfs
				? "controller/verify/xfs-check.ts readXfsLogState, newer-metadata.ts"
				: isBtrfs
					? "controller/verify/btrfs-check.ts readBtrfsSuperblocks, newer-metadata.ts"
					: "controller/verify/ext4-check.ts readExt4State, ext4-journal.ts",
			inputs: fc.tuple(fc.array(patch, { maxLength: 6 }), fc.boolean()),
			run: async ([patches, mends]) => {
				const reader = patchedReader(
					image,
					mends && !isXfs && !isBtrfs ? [...patches, ...mendedExt4(image, patches)] : patches,
				);
				const member = { disk: "vda", imagePath: "/i", offsetBytes: 0, sizeBytes: reader.sizeBytes, reader } as const;
				const small = patchedReader(image, patches, mostBytes ?? 2 * 1024 * 1024);
				if (isXfs) {
					const superblock = parseXfsSuperblock(await reader.read(0, 512));
					if (superblock === undefined) return;
					const log = await readXfsLogState(reader, superblock);
					await findNewerXfsMetadata(small, superblock, log?.last?.lsn ?? 0n, never);
					await checkXfs({ fsType: "xfs", uuid: "u", members: [{ ...member, reader: small }] }, never);
				} else if (isBtrfs) {
					const [superblock] = await readBtrfsSuperblocks(reader);
					if (superblock !== undefined) await findNewerBtrfsMetadata(small, superblock, never);
				} else {
					await readExt4State(reader);
					await checkExt4({ fsType: "ext4", uuid: "u", members: [member] });
				}
			},
			mayThrow: neverThrows,
			limits: { cpuMs: 3_000, growthBytes: 256 * 1024 * 1024 },
		}),
	];
}

const extremes = fc.constantFrom(
	...[
		"00000000",
		"ffffffff",
		"7fffffff",
		"80000000",
		"01000000",
		"00000001",
		"ffff",
		"0af3ffff0400",
		"c03b3998",
		"feedbabe",
	].map((hex) => Uint8Array.from(Buffer.from(hex, "hex"))),
);

/** Superblock, group descriptors, the journal's inode, and the journal. */
function ext4Places(image: Image): number[] {
	const superblock = parseExt4Superblock(image.bytes(1024, 1024));
	if (superblock === undefined) return [1024];
	const { blockSizeBytes, firstDataBlock, inodeSizeBytes } = superblock;
	const descriptors = (firstDataBlock + 1) * blockSizeBytes;
	const inodes = image.bytes(descriptors, 64).readUInt32LE(8) * blockSizeBytes;
	const inode = inodes + 7 * inodeSizeBytes;
	const journal = image.bytes(inode, 128).readUInt32LE(0x28 + 20) * blockSizeBytes;
	return [1024, descriptors, inode, inode + 0x20, journal, journal + blockSizeBytes];
}

function mendedExt4(image: Image, patches: readonly Patch[]): Patch[] {
	const bytes = image.bytes(1024, 1024);
	for (const { at, bytes: put } of patches) if (at >= 1024 && at + put.length <= 2048) bytes.set(put, at - 1024);
	bytes.writeUInt32LE(rawCrc32c(0xffffffff, bytes.subarray(0, 0x3fc)), 0x3fc);
	return [{ at: 1024 + 0x3fc, bytes: bytes.subarray(0x3fc) }];
}

function mendXfs(bytes: Buffer): void {
	if (bytes.length < 512) return;
	bytes.writeUInt32LE(0, 224);
	bytes.writeUInt32LE(crc32c(bytes.subarray(0, 512)), 224);
}

function mendBtrfs(bytes: Buffer): void {
	if (bytes.length < 4096) return;
	btrfsChecksum(bytes.readUInt16LE(0xc4), bytes.subarray(0x20, 4096))?.copy(bytes);
}

function mendGpt(bytes: Buffer): void {
	if (bytes.length < 1024) return;
	const length = Math.min(512, bytes.readUInt32LE(512 + 12));
	bytes.writeUInt32LE(0, 512 + 16);
	bytes.writeUInt32LE(crc32(bytes.subarray(512, 512 + length)), 512 + 16);
}

/** With a GPT, with an MBR, and without a table. */
function disks(heads: readonly Buffer[]): Buffer[] {
	const gpt = Buffer.alloc(128 * 1024);
	gpt.write("EFI PART", 512, "latin1");
	gpt.writeUInt32LE(92, 512 + 12);
	gpt.writeBigUInt64LE(2n, 512 + 72);
	gpt.writeUInt32LE(128, 512 + 80);
	gpt.writeUInt32LE(128, 512 + 84);
	gpt.writeUInt16LE(0xaa55, 510);
	for (const [index, first] of [40n, 120n].entries()) {
		gpt.fill(7, 1024 + index * 128, 1024 + index * 128 + 16);
		gpt.writeBigUInt64LE(first, 1024 + index * 128 + 32);
		gpt.writeBigUInt64LE(first + 60n, 1024 + index * 128 + 40);
	}
	ext4Superblock().copy(gpt, 40 * 512 + 1024);
	mendGpt(gpt);
	const mbr = Buffer.alloc(64 * 1024);
	for (const [entry, type, first] of [
		[0, 0x83, 40],
		[1, 0x05, 60],
	] as const) {
		mbr.writeUInt8(type, 446 + entry * 16 + 4);
		mbr.writeUInt32LE(first, 446 + entry * 16 + 8);
		mbr.writeUInt32LE(50, 446 + entry * 16 + 12);
	}
	mbr.writeUInt16LE(0xaa55, 510);
	mbr.copy(mbr, 60 * 512, 0, 512);
	xfsSuperblock().copy(mbr, 40 * 512);
	return [gpt, mbr, ...heads];
}

function otherHeads(): Buffer[] {
	const head = (place: number, text: string) => {
		const bytes = Buffer.alloc(8192);
		bytes.write(text, place, "latin1");
		return bytes;
	};
	const fat = head(54, "FAT16");
	fat.writeUInt16LE(0xaa55, 510);
	const raid = Buffer.alloc(8192);
	raid.writeUInt32LE(0xa92b4efc, 4096);
	raid.writeUInt32LE(1, 4100);
	return [head(0, "LUKS\xba\xbe"), head(512, "LABELONE"), head(4086, "SWAPSPACE2"), fat, raid];
}

function controlFile(): Buffer {
	const bytes = Buffer.alloc(8192);
	bytes.writeUInt32LE(1300, 8);
	bytes.writeUInt32LE(6, 16);
	bytes.writeBigUInt64LE(0x1_5000_0028n, 32);
	return bytes;
}

function tablespaceHead(): Buffer {
	const bytes = Buffer.alloc(64);
	bytes.writeUInt16BE(8, 24);
	bytes.writeUInt32BE(0x15, 54);
	return bytes;
}
