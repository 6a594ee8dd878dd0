import { open } from "node:fs/promises";
import { StillpointError } from "../../contracts/errors.ts";

/** What the first 4 KiB of a device say of the file system on it. */
export type SuperblockFacts = {
	readonly uuid?: string;
	/** ext3 and ext4 with an external journal: "MAJOR:MINOR" of its device, as last mounted. */
	readonly journalDevice?: string;
};

/** Reads the first 4 KiB of a block device: no udev and no blkid needed. May wait for a disk that hangs. */
export async function readSuperblockFacts(devicePath: string): Promise<SuperblockFacts> {
	await using device = await open(devicePath, "r");
	const bytes = Buffer.alloc(4096);
	const { bytesRead } = await device.read(bytes, 0, bytes.length, 0);
	if (bytesRead < bytes.length) throw new StillpointError("image-unreadable", `${devicePath} is shorter than 4 KiB`);
	return parseSuperblockFacts(bytes);
}

// Offsets: ext4 superblock at 1024 (Documentation/filesystems/ext4/super.rst), xfs_dsb (XFS disk format document).
const EXT = 1024;
const EXT_MAGIC = 0xef53;
const COMPAT_HAS_JOURNAL = 0x4;

/** The first 4 KiB of a device with ext2, ext3, ext4 or xfs; nothing for all else. */
export function parseSuperblockFacts(bytes: Buffer): SuperblockFacts {
	if (bytes.length < 4096) return {};
	if (bytes.readUInt32BE(0) === 0x58465342) return { uuid: formatUuid(bytes.subarray(32, 48)) };
	if (bytes.readUInt16LE(EXT + 0x38) !== EXT_MAGIC) return {};
	const uuid = formatUuid(bytes.subarray(EXT + 0x68, EXT + 0x78));
	const hasJournal = (bytes.readUInt32LE(EXT + 0x5c) & COMPAT_HAS_JOURNAL) !== 0;
	const journalInode = bytes.readUInt32LE(EXT + 0xe0);
	const journalDevice = bytes.readUInt32LE(EXT + 0xe4);
	if (!hasJournal || journalInode !== 0 || journalDevice === 0) return { uuid };
	return { uuid, journalDevice: formatDeviceNumber(journalDevice) };
}

/** The kernel's `new_encode_dev`: minor bits 0-7 and 20-31, major bits 8-19; what `st_dev` is made of as well. */
export function formatDeviceNumber(encoded: number | bigint): string {
	const device = BigInt(encoded);
	const major = (device >> 8n) & 0xfffn;
	const minor = (device & 0xffn) | ((device >> 12n) & 0xfff00n);
	return `${major}:${minor}`;
}

function formatUuid(bytes: Buffer): string {
	const hex = bytes.toString("hex");
	return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
