/**
 * Which file systems lie on a disk that can be read in ranges: the proof that a snapshot is one of the disk it is taken
 * for. Reads a few KiB. What it does not know (LVM, LUKS) is absent, and then nothing is proved.
 */
import type { ImageIdentity } from "../../../contracts/recovery-point.ts";
import { parseSuperblockFacts } from "../../../platform/linux/superblock-uuid.ts";

/** May return less than was asked for, at the end. */
export type ReadRange = (offsetBytes: number, lengthBytes: number) => Promise<Buffer>;

const sectorBytes = 512;
/** To the end of the btrfs superblock; GPT with 128 entries ends far before. */
const headBytes = 68 * 1024;
const maxPartitions = 128;

export async function readBlobIdentity(read: ReadRange): Promise<ImageIdentity> {
	const head = await read(0, headBytes);
	const partitions = findPartitionOffsets(head);
	const regions = partitions.length === 0 ? [0] : partitions;
	const found = [];
	for (const offsetBytes of regions) {
		const bytes = offsetBytes === 0 ? head : await read(offsetBytes, headBytes);
		const one = findFileSystem(bytes);
		if (one !== undefined) found.push({ ...one, offsetBytes });
	}
	return { fileSystems: found };
}

/** Of GPT (UEFI specification 5.3) or the primary ones of an MBR, in bytes. A lone file system has no partitions. */
export function findPartitionOffsets(head: Buffer): number[] {
	if (head.length < 2 * sectorBytes || head.readUInt16LE(510) !== 0xaa55) return [];
	if (head.toString("latin1", sectorBytes, sectorBytes + 8) === "EFI PART") return findGptOffsets(head);
	const offsets: number[] = [];
	for (let entry = 446; entry < 510; entry += 16) {
		const type = head.readUInt8(entry + 4);
		const firstSector = head.readUInt32LE(entry + 8);
		if (type !== 0 && firstSector > 0) offsets.push(firstSector * sectorBytes);
	}
	return offsets;
}

function findGptOffsets(head: Buffer): number[] {
	const tableAt = Number(head.readBigUInt64LE(sectorBytes + 72)) * sectorBytes;
	const count = Math.min(maxPartitions, head.readUInt32LE(sectorBytes + 80));
	const entryBytes = head.readUInt32LE(sectorBytes + 84);
	const offsets: number[] = [];
	for (let index = 0; index < count && entryBytes >= 128; index += 1) {
		const at = tableAt + index * entryBytes;
		if (at + 128 > head.length) break;
		const isUsed = head.subarray(at, at + 16).some((byte) => byte !== 0);
		if (isUsed) offsets.push(Number(head.readBigUInt64LE(at + 32)) * sectorBytes);
	}
	return offsets;
}

// The btrfs superblock lies at 64 KiB: magic at 0x40, file system UUID at 0x20 (btrfs on-disk format).
const btrfsAt = 64 * 1024;

function findFileSystem(bytes: Buffer): { fsType: string; uuid: string } | undefined {
	const { uuid } = bytes.length < 4_096 ? {} : parseSuperblockFacts(bytes.subarray(0, 4_096));
	if (uuid !== undefined) return { fsType: bytes.readUInt32BE(0) === 0x58465342 ? "xfs" : "ext4", uuid };
	if (bytes.length < btrfsAt + 0x48) return undefined;
	if (bytes.toString("latin1", btrfsAt + 0x40, btrfsAt + 0x48) !== "_BHRfS_M") return undefined;
	const hex = bytes.toString("hex", btrfsAt + 0x20, btrfsAt + 0x30);
	const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
	return { fsType: "btrfs", uuid: parts.join("-") };
}
