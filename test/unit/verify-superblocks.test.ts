import { describe, expect, test } from "vitest";
import { crc32c } from "../../controller/verify/crc32c.ts";
import { findFileSystems } from "../../controller/verify/image-identity.ts";
import { regionOf } from "../../controller/verify/raw-image.ts";
import { btrfsChecksum, parseBtrfsSuperblock, withFsid } from "../../controller/verify/superblock-btrfs.ts";
import { parseExt4Superblock } from "../../controller/verify/superblock-ext4.ts";
import { parseOtherSignature } from "../../controller/verify/superblock-other.ts";
import { parseXfsSuperblock } from "../../controller/verify/superblock-xfs.ts";
import { hostileVariants, readerOf } from "../fixtures/hostile-bytes.ts";
import { btrfsSuperblock, ext4Superblock, uuid, xfsSuperblock } from "../fixtures/superblock-bytes.ts";

test("CRC-32C gives the check value of its definition", () => {
	expect(crc32c(Buffer.from("123456789")).toString(16)).toBe("e3069283");
});

describe("superblocks that are cut, blank or hostile are no file system and never an exception", () => {
	test.each([
		["ext4", ext4Superblock(), parseExt4Superblock],
		["xfs", xfsSuperblock(), parseXfsSuperblock],
		["btrfs", btrfsSuperblock(), parseBtrfsSuperblock],
		["others", Buffer.alloc(8192), parseOtherSignature],
	] as const)("%s", (_name, valid, parse) => {
		for (let length = 0; length < valid.length; length += 17) expect(parse(valid.subarray(0, length))).toBeUndefined();
		expect(parse(Buffer.alloc(valid.length))).toBeUndefined();
		expect(parse(Buffer.alloc(valid.length, 0xff))).toBeUndefined();
		for (const bytes of hostileVariants(valid, 500)) expect(() => parse(bytes)).not.toThrow();
	});

	test("a whole disk of hostile bytes", async () => {
		const disk = Buffer.alloc(256 * 1024);
		ext4Superblock().copy(disk, 1024);
		btrfsSuperblock().copy(disk, 65536);
		disk.writeUInt16LE(0xaa55, 510);
		for (const bytes of hostileVariants(disk, 60, 70_000)) await findFileSystems(readerOf(bytes));
	});
});

describe("ext4", () => {
	test("the recovery flag, the journal and the type are told apart", () => {
		expect(parseExt4Superblock(ext4Superblock())).toMatchObject({ fsType: "ext4", uuid, needsRecovery: false });
		expect(parseExt4Superblock(ext4Superblock({ incompat: 0x4 | 0x40 }))).toMatchObject({ needsRecovery: true });
		expect(parseExt4Superblock(ext4Superblock({ incompat: 0x2, roCompat: 0x3 }))).toMatchObject({ fsType: "ext3" });
		expect(parseExt4Superblock(ext4Superblock({ incompat: 0x2, roCompat: 0x3, compat: 0 }))).toMatchObject({
			fsType: "ext2",
		});
		expect(parseExt4Superblock(ext4Superblock({ incompat: 0x8 }))).toMatchObject({ fsType: "jbd" });
	});

	test("a superblock with one changed byte fails its checksum", () => {
		const bytes = ext4Superblock();
		expect(parseExt4Superblock(bytes)?.checksumOk).toBe(true);
		bytes.writeUInt8(bytes.readUInt8(0x30) ^ 1, 0x30);
		expect(parseExt4Superblock(bytes)?.checksumOk).toBe(false);
	});
});

describe("XFS", () => {
	test("the place of the log is worked out from its group", () => {
		expect(parseXfsSuperblock(xfsSuperblock())).toMatchObject({
			uuid,
			metadataUuid: uuid,
			checksumOk: true,
			logOffsetBytes: (2 * 20480 + 6) * 4096,
			logSizeBytes: 1000 * 4096,
		});
	});

	test("a log on another device has no place", () => {
		expect(parseXfsSuperblock(xfsSuperblock({ logStart: 0n }))?.logOffsetBytes).toBeUndefined();
	});
});

describe("btrfs", () => {
	test.each([0, 2])("checksums of kind %i are checked", (checksumType) => {
		const bytes = btrfsSuperblock({ checksumType });
		expect(parseBtrfsSuperblock(bytes)).toMatchObject({ fsid: uuid, generation: 7n, logRoot: 0n, checksumOk: true });
		bytes.writeUInt8(1, 0x60);
		expect(parseBtrfsSuperblock(bytes)).toMatchObject({ logRoot: 1n, checksumOk: false });
	});

	test("a kind of checksum that is not known is said to be unknown", () => {
		expect(btrfsChecksum(3, Buffer.alloc(1))).toBeUndefined();
		expect(parseBtrfsSuperblock(btrfsSuperblock({ checksumType: 3 }))?.checksumOk).toBeUndefined();
		expect(withFsid(btrfsSuperblock({ checksumType: 3 }), Buffer.alloc(16))).toBeUndefined();
	});

	test("a copy under another fsid keeps the old one for its tree blocks", () => {
		const once = withFsid(btrfsSuperblock(), Buffer.alloc(16, 0xab)) as Buffer;
		const other = "abababab-abab-abab-abab-abababababab";
		expect(parseBtrfsSuperblock(once)).toMatchObject({ fsid: other, metadataUuid: uuid, checksumOk: true });
		const twice = withFsid(once, Buffer.alloc(16, 0xcd)) as Buffer;
		expect(parseBtrfsSuperblock(twice)).toMatchObject({ metadataUuid: uuid, checksumOk: true });
	});
});

describe("where file systems are found", () => {
	test("directly on the disk, and not past its end", async () => {
		const disk = Buffer.alloc(128 * 1024);
		ext4Superblock().copy(disk, 1024);
		expect(await findFileSystems(readerOf(disk))).toMatchObject([{ fsType: "ext4", uuid, offsetBytes: 0 }]);
		expect(await findFileSystems(regionOf(readerOf(disk), 0, 1500))).toEqual([]);
	});

	test("ext4 over an old btrfs is ext4", async () => {
		const disk = Buffer.alloc(128 * 1024);
		ext4Superblock().copy(disk, 1024);
		btrfsSuperblock().copy(disk, 65536);
		expect(await findFileSystems(readerOf(disk))).toMatchObject([{ fsType: "ext4" }]);
	});

	test("containers are named for what they are", () => {
		const luks = Buffer.alloc(8192);
		luks.write("LUKS\xba\xbe", 0, "latin1");
		luks.write(uuid, 168, "latin1");
		expect(parseOtherSignature(luks)).toEqual({ fsType: "crypto_LUKS", uuid });
		const lvm = Buffer.alloc(8192);
		lvm.write("LABELONE", 512, "latin1");
		lvm.write("LVM2 001", 512 + 24, "latin1");
		lvm.write("a".repeat(32), 512 + 32, "latin1");
		expect(parseOtherSignature(lvm)?.fsType).toBe("LVM2_member");
		const fat = Buffer.alloc(8192);
		fat.writeUInt16LE(0xaa55, 510);
		fat.write("FAT32   ", 82, "latin1");
		fat.writeUInt32LE(0x1234abcd, 67);
		expect(parseOtherSignature(fat)).toEqual({ fsType: "vfat", uuid: "1234-ABCD" });
	});
});
