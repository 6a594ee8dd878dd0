import { rawCrc32c } from "./crc32c.ts";
import type { RawReader } from "./raw-image.ts";
import type { Ext4Superblock } from "./superblock-ext4.ts";

/** Source of the layouts: Linux Documentation/filesystems/ext4 (journal.rst, inodes.rst, ifork.rst); jbd2 is big-endian. */
const jbd2Magic = 0xc03b3998;
const blockTypes = { descriptor: 1, commit: 2, revoke: 5 } as const;

export type JournalSuperblock = {
	blockSizeBytes: number;
	blockCount: number;
	firstBlock: number;
	/** The first transaction to recover; when there is none, the number that the next one will get. */
	sequence: number;
	/** 0: nothing to recover. */
	startBlock: number;
	/** Descriptor, commit and revoke blocks carry a CRC-32C. */
	checksums: boolean;
	checksumSeed: number;
};

/** A block of a transaction that belongs to the journal, in the order of the journal area. */
export type JournalBlock = { block: number; type: number; sequence: number; committedAtSeconds: number | undefined };

export function parseJournalSuperblock(bytes: Buffer): JournalSuperblock | undefined {
	if (bytes.length < 1024 || bytes.readUInt32BE(0) !== jbd2Magic) return undefined;
	const type = bytes.readUInt32BE(4);
	if (type !== 3 && type !== 4) return undefined;
	const blockSizeBytes = bytes.readUInt32BE(0xc);
	if (blockSizeBytes < 1024 || blockSizeBytes > 65536) return undefined;
	const incompat = type === 4 ? bytes.readUInt32BE(0x28) : 0;
	return {
		blockSizeBytes,
		blockCount: bytes.readUInt32BE(0x10),
		firstBlock: bytes.readUInt32BE(0x14),
		sequence: bytes.readUInt32BE(0x18),
		startBlock: bytes.readUInt32BE(0x1c),
		checksums: (incompat & 0x18) !== 0,
		checksumSeed: rawCrc32c(0xffffffff, bytes.subarray(0x30, 0x40)),
	};
}

/** undefined: no block of a transaction, or an old one of another journal (its checksum is not of this journal). */
export function parseJournalBlock(bytes: Buffer, block: number, journal: JournalSuperblock): JournalBlock | undefined {
	if (bytes.length < journal.blockSizeBytes || bytes.readUInt32BE(0) !== jbd2Magic) return undefined;
	const type = bytes.readUInt32BE(4);
	if (type !== blockTypes.descriptor && type !== blockTypes.commit && type !== blockTypes.revoke) return undefined;
	const checksumAt = type === blockTypes.commit ? 16 : journal.blockSizeBytes - 4;
	if (journal.checksums) {
		const blanked = Buffer.from(bytes.subarray(0, journal.blockSizeBytes));
		blanked.writeUInt32BE(0, checksumAt);
		if (rawCrc32c(journal.checksumSeed, blanked) !== bytes.readUInt32BE(checksumAt)) return undefined;
	}
	const committedAtSeconds = type === blockTypes.commit ? Number(bytes.readBigUInt64BE(48)) : undefined;
	return { block, type, sequence: bytes.readUInt32BE(8), committedAtSeconds };
}

/** Whether `sequence` is `than` or later; transaction numbers wrap at 2^32. */
export function notBefore(sequence: number, than: number): boolean {
	return ((sequence - than) | 0) >= 0;
}

/** Reads the journal's blocks from `firstBlock` on, in order. `blocks` are its places in the file system. */
export async function* readJournalBlocks(
	fileSystem: RawReader,
	journal: JournalSuperblock,
	extents: readonly Extent[],
): AsyncGenerator<JournalBlock> {
	// Hostile extents may overlap: no more is read than the journal can hold.
	let left = Math.min(journal.blockCount, Math.ceil(fileSystem.sizeBytes / journal.blockSizeBytes));
	for (const whole of extents) {
		const extent = { ...whole, count: Math.min(whole.count, left) };
		left -= extent.count;
		const chunkBlocks = Math.max(1, Math.floor((1 << 20) / journal.blockSizeBytes));
		for (let done = 0; done < extent.count; done += chunkBlocks) {
			const count = Math.min(chunkBlocks, extent.count - done);
			const offset = (extent.physical + done) * journal.blockSizeBytes;
			const bytes = await fileSystem.read(offset, count * journal.blockSizeBytes);
			for (let index = 0; (index + 1) * journal.blockSizeBytes <= bytes.length; index += 1) {
				const logical = extent.logical + done + index;
				if (logical < journal.firstBlock || logical >= journal.blockCount) continue;
				const at = index * journal.blockSizeBytes;
				const block = parseJournalBlock(bytes.subarray(at, at + journal.blockSizeBytes), logical, journal);
				if (block) yield block;
			}
		}
	}
}

export type Extent = { logical: number; physical: number; count: number };

/** Where the blocks of the journal's inode lie; undefined when the inode makes no sense. */
export async function findJournalExtents(reader: RawReader, superblock: Ext4Superblock): Promise<Extent[] | undefined> {
	const { blockSizeBytes, inodeSizeBytes, journalInode, inodesPerGroup } = superblock;
	if (journalInode === 0 || journalInode > inodesPerGroup) return undefined;
	const descriptor = await reader.read((superblock.firstDataBlock + 1) * blockSizeBytes, 64);
	if (descriptor.length < 64) return undefined;
	const high = superblock.groupDescriptorBytes >= 64 ? descriptor.readUInt32LE(0x28) : 0;
	const inodeTable = descriptor.readUInt32LE(0x8) + high * 2 ** 32;
	const inode = await reader.read(inodeTable * blockSizeBytes + (journalInode - 1) * inodeSizeBytes, 128);
	if (inode.length < 128) return undefined;
	const usesExtents = (inode.readUInt32LE(0x20) & 0x80000) !== 0;
	const found: Extent[] = [];
	const map = inode.subarray(0x28, 0x28 + 60);
	const walk = { reader, superblock, found, readsLeft: mostNodes };
	if (usesExtents) await collectExtents(walk, map, 5);
	else await collectBlocks(walk, map);
	return found.length > 0 ? found.sort((a, b) => a.logical - b.logical) : undefined;
}

const mostExtents = 100_000;
/** Blocks of pointers that are read at most: hostile ones point at themselves. */
const mostNodes = 10_000;

type MapWalk = { reader: RawReader; superblock: Ext4Superblock; found: Extent[]; readsLeft: number };

async function readNode(walk: MapWalk, physical: number): Promise<Buffer> {
	walk.readsLeft -= 1;
	const { blockSizeBytes } = walk.superblock;
	return walk.readsLeft < 0 ? Buffer.alloc(0) : walk.reader.read(physical * blockSizeBytes, blockSizeBytes);
}

async function collectExtents(walk: MapWalk, node: Buffer, depthLeft: number): Promise<void> {
	if (node.length < 12 || node.readUInt16LE(0) !== 0xf30a) return;
	const entries = node.readUInt16LE(2);
	const depth = node.readUInt16LE(6);
	for (let at = 12; at < 12 + entries * 12 && at + 12 <= node.length && walk.found.length < mostExtents; at += 12) {
		if (depth === 0) {
			const physical = node.readUInt32LE(at + 8) + node.readUInt16LE(at + 6) * 2 ** 32;
			walk.found.push({ logical: node.readUInt32LE(at), physical, count: node.readUInt16LE(at + 4) });
		} else if (depthLeft > 0 && walk.readsLeft > 0) {
			const child = node.readUInt32LE(at + 4) + node.readUInt16LE(at + 8) * 2 ** 32;
			await collectExtents(walk, await readNode(walk, child), depthLeft - 1);
		}
	}
}

/** The block map of ext2 and ext3: 12 direct pointers, then blocks of pointers one, two and three levels deep. */
async function collectBlocks(walk: MapWalk, map: Buffer): Promise<void> {
	const { blockSizeBytes, blockCount } = walk.superblock;
	let logical = 0;
	const add = async (physical: number, depth: number): Promise<void> => {
		if (physical === 0 || physical >= blockCount || walk.found.length >= mostExtents || walk.readsLeft < 0) {
			logical += (blockSizeBytes / 4) ** depth;
			return;
		}
		if (depth > 0) {
			const pointers = await readNode(walk, physical);
			for (let at = 0; at + 4 <= pointers.length && walk.readsLeft >= 0; at += 4) {
				await add(pointers.readUInt32LE(at), depth - 1);
			}
			return;
		}
		const last = walk.found.at(-1);
		if (last && last.physical + last.count === physical && last.logical + last.count === logical) last.count += 1;
		else walk.found.push({ logical, physical, count: 1 });
		logical += 1;
	};
	for (let index = 0; index < 15; index += 1) await add(map.readUInt32LE(index * 4), Math.max(0, index - 11));
}
