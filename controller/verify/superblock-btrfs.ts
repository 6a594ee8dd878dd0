import { createHash } from "node:crypto";
import { crc32c } from "./crc32c.ts";
import { uuidText } from "./uuid-text.ts";

/** The primary and its mirrors; a mirror exists when the device is large enough. Source: btrfs.readthedocs.io, on-disk format. */
export const btrfsSuperblocksAt = [0x1_0000, 0x400_0000, 0x40_0000_0000] as const;
export const btrfsSuperblockBytes = 4096;

export type BtrfsSuperblock = {
	/** What tells file systems apart (and what the report calls `uuid`). */
	fsid: string;
	/** What tree blocks carry: `fsid` unless it was changed after mkfs. */
	metadataUuid: string;
	bytenr: number;
	generation: bigint;
	root: bigint;
	chunkRoot: bigint;
	/** Not 0: fsyncs since the last whole transaction lie in a log tree. A commit, so also a freeze, sets it to 0. */
	logRoot: bigint;
	deviceCount: number;
	deviceId: number;
	deviceUuid: string;
	deviceSizeBytes: number;
	sectorSizeBytes: number;
	nodeSizeBytes: number;
	checksumType: number;
	/** undefined: a checksum that is not known here (xxhash64, blake2b). */
	checksumOk: boolean | undefined;
};

const incompatMetadataUuid = 0x400n;

/** undefined: these bytes are no btrfs superblock. */
export function parseBtrfsSuperblock(bytes: Buffer): BtrfsSuperblock | undefined {
	if (bytes.length < btrfsSuperblockBytes || bytes.toString("latin1", 0x40, 0x48) !== "_BHRfS_M") return undefined;
	const nodeSizeBytes = bytes.readUInt32LE(0x94);
	const sectorSizeBytes = bytes.readUInt32LE(0x90);
	if (nodeSizeBytes < 4096 || nodeSizeBytes > 65536 || (nodeSizeBytes & (nodeSizeBytes - 1)) !== 0) return undefined;
	const fsid = uuidText(bytes.subarray(0x20, 0x30));
	const hasMetadataUuid = (bytes.readBigUInt64LE(0xbc) & incompatMetadataUuid) !== 0n;
	const checksumType = bytes.readUInt16LE(0xc4);
	const sum = btrfsChecksum(checksumType, bytes.subarray(0x20, btrfsSuperblockBytes));
	return {
		fsid,
		metadataUuid: hasMetadataUuid ? uuidText(bytes.subarray(0x23b, 0x24b)) : fsid,
		bytenr: Number(bytes.readBigUInt64LE(0x30)),
		generation: bytes.readBigUInt64LE(0x48),
		root: bytes.readBigUInt64LE(0x50),
		chunkRoot: bytes.readBigUInt64LE(0x58),
		logRoot: bytes.readBigUInt64LE(0x60),
		deviceCount: Number(bytes.readBigUInt64LE(0x88)),
		deviceId: Number(bytes.readBigUInt64LE(0xc9)),
		deviceUuid: uuidText(bytes.subarray(0x10b, 0x11b)),
		deviceSizeBytes: Number(bytes.readBigUInt64LE(0xd1)),
		sectorSizeBytes,
		nodeSizeBytes,
		checksumType,
		checksumOk: sum === undefined ? undefined : sum.equals(bytes.subarray(0, 32)),
	};
}

/** As it stands in the first 32 bytes of superblocks and tree blocks; undefined for a kind that is not known here. */
export function btrfsChecksum(checksumType: number, bytes: Uint8Array): Buffer | undefined {
	const sum = Buffer.alloc(32);
	if (checksumType === 0) sum.writeUInt32LE(crc32c(bytes));
	else if (checksumType === 2) createHash("sha256").update(bytes).digest().copy(sum);
	else return undefined;
	return sum;
}

/**
 * The same superblock under another fsid. The tree blocks keep the old one, which `metadata_uuid` then names; the
 * kernel (5.0) and the tools know that. For private copies: two file systems of one fsid on a machine get mixed up.
 */
export function withFsid(superblock: Buffer, fsid: Buffer): Buffer | undefined {
	const changed = Buffer.from(superblock);
	const incompat = changed.readBigUInt64LE(0xbc);
	if ((incompat & incompatMetadataUuid) === 0n) {
		changed.copy(changed, 0x23b, 0x20, 0x30);
		changed.writeBigUInt64LE(incompat | incompatMetadataUuid, 0xbc);
	}
	fsid.copy(changed, 0x20, 0, 16);
	const sum = btrfsChecksum(changed.readUInt16LE(0xc4), changed.subarray(0x20));
	sum?.copy(changed);
	return sum && changed;
}
