import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { findFileSystems } from "../../controller/verify/image-identity.ts";
import { findGptPartitions, findMbrPartitions } from "../../controller/verify/partition-table.ts";
import { hostileVariants, readerOf } from "../fixtures/hostile-bytes.ts";
import { btrfsSuperblock, ext4Superblock, uuid } from "../fixtures/superblock-bytes.ts";

describe("GPT", () => {
	test.each([512, 4096])("partitions are found with sectors of %i bytes", async (sectorBytes) => {
		const disk = gptDisk(sectorBytes);
		ext4Superblock().copy(disk, 40 * sectorBytes + 1024);
		expect(await findFileSystems(readerOf(disk))).toMatchObject([
			{ fsType: "ext4", uuid, offsetBytes: 40 * sectorBytes, sizeBytes: 21 * sectorBytes },
		]);
	});

	test("an old superblock behind a newer table does not count", async () => {
		const disk = gptDisk(512);
		btrfsSuperblock().copy(disk, 65536);
		expect(await findFileSystems(readerOf(disk))).toEqual([]);
	});

	test("a header with a wrong checksum is no table, and hostile ones end", async () => {
		const disk = gptDisk(512);
		disk.writeUInt8(1, 512 + 40);
		expect(await findGptPartitions(readerOf(disk))).toBeUndefined();
		for (const bytes of hostileVariants(gptDisk(512), 200, 3000)) {
			bytes.writeUInt32LE(0, 512 + 16);
			const length = Math.min(512, bytes.readUInt32LE(512 + 12));
			bytes.writeUInt32LE(crc32(bytes.subarray(512, 512 + length)), 512 + 16);
			await findGptPartitions(readerOf(bytes));
		}
	});
});

describe("MBR", () => {
	test("primary and logical partitions are found", async () => {
		const disk = Buffer.alloc(1 << 20);
		mbr(disk, 0, [0x83, 100, 50], [0x05, 200, 1000]);
		mbr(disk, 200, [0x83, 10, 100], [0x05, 300, 100]);
		mbr(disk, 500, [0x83, 10, 20]);
		const found = await findMbrPartitions(readerOf(disk));
		expect(found.map(({ offsetBytes }) => offsetBytes / 512)).toEqual([100, 210, 510]);
	});

	test("a chain of logical partitions that points at itself ends", async () => {
		const disk = Buffer.alloc(1 << 20);
		mbr(disk, 0, [0x05, 200, 1000]);
		mbr(disk, 200, [0x83, 10, 100], [0x05, 0, 100]);
		expect(await findMbrPartitions(readerOf(disk))).toHaveLength(1);
	});

	test("partitions past the end, and boot code that looks like a table, are left out", async () => {
		const disk = Buffer.alloc(1 << 20);
		mbr(disk, 0, [0x83, 0xffffffff, 100]);
		expect(await findMbrPartitions(readerOf(disk))).toEqual([]);
		mbr(disk, 0, [0x83, 100, 100]);
		disk.writeUInt8(0x33, 446);
		expect(await findMbrPartitions(readerOf(disk))).toEqual([]);
	});
});

function mbr(disk: Buffer, sector: number, ...entries: [type: number, first: number, sectors: number][]): void {
	const at = sector * 512;
	disk.writeUInt16LE(0xaa55, at + 510);
	for (const [index, [type, first, sectors]] of entries.entries()) {
		disk.writeUInt8(type, at + 446 + index * 16 + 4);
		disk.writeUInt32LE(first, at + 446 + index * 16 + 8);
		disk.writeUInt32LE(sectors, at + 446 + index * 16 + 12);
	}
}

function gptDisk(sectorBytes: number): Buffer {
	const disk = Buffer.alloc(100 * sectorBytes + 131072);
	const header = disk.subarray(sectorBytes, sectorBytes + 92);
	header.write("EFI PART", 0, "latin1");
	header.writeUInt32LE(92, 12);
	header.writeBigUInt64LE(2n, 72);
	header.writeUInt32LE(4, 80);
	header.writeUInt32LE(128, 84);
	header.writeUInt32LE(crc32(header), 16);
	const entry = disk.subarray(2 * sectorBytes, 2 * sectorBytes + 128);
	entry.fill(0x11, 0, 16);
	entry.writeBigUInt64LE(40n, 32);
	entry.writeBigUInt64LE(60n, 40);
	return disk;
}
