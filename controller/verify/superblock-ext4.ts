import { rawCrc32c } from "./crc32c.ts";
import { uuidText } from "./uuid-text.ts";

/** Where the superblock lies, and how much of it is read. Source: Linux Documentation/filesystems/ext4/super.rst. */
export const ext4SuperblockAt = { offsetBytes: 1024, lengthBytes: 1024 } as const;

export type Ext4Superblock = {
	/** As blkid names it: `ext2`, `ext3`, `ext4`, or `jbd` for an external journal. */
	fsType: "ext2" | "ext3" | "ext4" | "jbd";
	uuid: string;
	blockSizeBytes: number;
	blockCount: number;
	firstDataBlock: number;
	groupDescriptorBytes: number;
	inodeSizeBytes: number;
	inodesPerGroup: number;
	/** It was mounted for writing and neither unmounted nor frozen. */
	needsRecovery: boolean;
	hasJournal: boolean;
	/** Inode of the journal, 0 when it lies on another device. */
	journalInode: number;
	/** Set when unmounted; file systems without a journal clear it while mounted for writing. */
	cleanState: boolean;
	/** Unlinked but open files wait for their end: a list in the superblock, or in the orphan file. */
	hasOrphans: boolean;
	/** Last write of the superblock, seconds since 1970 by the guest's clock. A freeze writes it. */
	writtenAtSeconds: number;
	/** undefined: this file system carries no checksums. */
	checksumOk: boolean | undefined;
};

const compatHasJournal = 0x4;
const incompatRecover = 0x4;
const incompatJournalDevice = 0x8;
const incompat64Bit = 0x80;
const roCompatMetadataChecksum = 0x400;
const roCompatOrphanPresent = 0x10000;
/** Features that ext3 does not know: any other makes it ext4. */
const ext3Incompat = 0x2 | incompatRecover | 0x10;
const ext3RoCompat = 0x1 | 0x2 | 0x4;

/** undefined: these bytes are no ext2, ext3 or ext4 superblock. */
export function parseExt4Superblock(bytes: Buffer): Ext4Superblock | undefined {
	if (bytes.length < 1024 || bytes.readUInt16LE(0x38) !== 0xef53) return undefined;
	const logBlockSize = bytes.readUInt32LE(0x18);
	const inodesPerGroup = bytes.readUInt32LE(0x28);
	const revision = bytes.readUInt32LE(0x4c);
	const inodeSizeBytes = revision === 0 ? 128 : bytes.readUInt16LE(0x58);
	if (logBlockSize > 6 || inodesPerGroup > 8 * 65536 || inodeSizeBytes < 128 || inodeSizeBytes > 65536)
		return undefined;
	const compat = bytes.readUInt32LE(0x5c);
	const incompat = bytes.readUInt32LE(0x60);
	const roCompat = bytes.readUInt32LE(0x64);
	const is64Bit = (incompat & incompat64Bit) !== 0;
	const descriptorBytes = is64Bit ? bytes.readUInt16LE(0xfe) : 32;
	if (descriptorBytes < 32 || descriptorBytes > 1024) return undefined;
	const hasJournal = (compat & compatHasJournal) !== 0;
	return {
		fsType: typeOf(hasJournal, incompat, roCompat),
		uuid: uuidText(bytes.subarray(0x68, 0x78)),
		blockSizeBytes: 1024 << logBlockSize,
		blockCount: bytes.readUInt32LE(0x4) + (is64Bit ? bytes.readUInt32LE(0x150) * 2 ** 32 : 0),
		firstDataBlock: bytes.readUInt32LE(0x14),
		groupDescriptorBytes: descriptorBytes,
		inodeSizeBytes,
		inodesPerGroup,
		needsRecovery: (incompat & incompatRecover) !== 0,
		hasJournal,
		journalInode: bytes.readUInt32LE(0xe0),
		cleanState: (bytes.readUInt16LE(0x3a) & 1) !== 0,
		hasOrphans: bytes.readUInt32LE(0xe8) !== 0 || (roCompat & roCompatOrphanPresent) !== 0,
		writtenAtSeconds: bytes.readUInt32LE(0x30) + bytes.readUInt8(0x274) * 2 ** 32,
		checksumOk:
			(roCompat & roCompatMetadataChecksum) === 0
				? undefined
				: rawCrc32c(0xffffffff, bytes.subarray(0, 0x3fc)) === bytes.readUInt32LE(0x3fc),
	};
}

function typeOf(hasJournal: boolean, incompat: number, roCompat: number): Ext4Superblock["fsType"] {
	if (incompat & incompatJournalDevice) return "jbd";
	if ((incompat & ~ext3Incompat) !== 0 || (roCompat & ~ext3RoCompat) !== 0) return "ext4";
	return hasJournal ? "ext3" : "ext2";
}
