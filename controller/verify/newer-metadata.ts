import type { RawReader } from "./raw-image.ts";
import type { BtrfsSuperblock } from "./superblock-btrfs.ts";
import { btrfsChecksum } from "./superblock-btrfs.ts";
import type { XfsSuperblock } from "./superblock-xfs.ts";
import { uuidText } from "./uuid-text.ts";

/** A block of metadata that was written after the moment that superblock and log tell of. */
export type NewerBlock = { offsetBytes: number; kind: string; writtenIn: bigint };

export type NewerMetadata = { newer: NewerBlock[]; looked: number };

const chunkBytes = 4 << 20;
const mostNamed = 1000;

/** Where an XFS v5 block of a kind keeps its disk address (in 512-byte units), log sequence number and UUID. */
type XfsBlockLayout = { address: number | undefined; lsn: number; uuid: number };

const shortTree: XfsBlockLayout = { address: 16, lsn: 24, uuid: 32 };
const directory: XfsBlockLayout = { address: 8, lsn: 16, uuid: 24 };
const xfsLayouts: ReadonlyMap<string, XfsBlockLayout> = new Map([
	["XFSB", { address: undefined, lsn: 240, uuid: 32 }],
	["XAGF", { address: undefined, lsn: 208, uuid: 64 }],
	["XAGI", { address: undefined, lsn: 320, uuid: 296 }],
	["XAFL", { address: undefined, lsn: 24, uuid: 8 }],
	["AB3B", shortTree],
	["AB3C", shortTree],
	["IAB3", shortTree],
	["FIB3", shortTree],
	["RMB3", shortTree],
	["R3FC", shortTree],
	["BMA3", { address: 24, lsn: 32, uuid: 40 }],
	["XDB3", directory],
	["XDD3", directory],
	["XDF3", directory],
]);
const inodeLayout: XfsBlockLayout = { address: undefined, lsn: 112, uuid: 160 };
const nullLsn = 0xffffffffffffffffn;

/**
 * Metadata of XFS version 5 whose log sequence number lies behind the head of the log: XFS writes the log first, so
 * on a copy of one instant there is none. Reads the whole file system once.
 */
export async function findNewerXfsMetadata(
	reader: RawReader,
	superblock: XfsSuperblock,
	headLsn: bigint,
	signal: AbortSignal,
): Promise<NewerMetadata> {
	const result: NewerMetadata = { newer: [], looked: 0 };
	await eachSector(reader, 512, signal, (sector, offsetBytes) => {
		const kind = sector.toString("latin1", 0, 4);
		const isInode = kind.startsWith("IN") && sector.readUInt8(4) === 3;
		const layout = isInode ? inodeLayout : xfsLayouts.get(kind);
		if (!layout) return;
		if (layout.address !== undefined && sector.readBigUInt64BE(layout.address) * 512n !== BigInt(offsetBytes)) return;
		const uuid = uuidText(sector.subarray(layout.uuid, layout.uuid + 16));
		if (uuid !== superblock.metadataUuid && !(kind === "XFSB" && uuid === superblock.uuid)) return;
		result.looked += 1;
		const writtenIn = sector.readBigUInt64BE(layout.lsn);
		if (writtenIn > headLsn && writtenIn !== nullLsn && result.newer.length < mostNamed) {
			result.newer.push({ offsetBytes, kind: isInode ? "inode" : kind, writtenIn });
		}
	});
	return result;
}

/**
 * Tree blocks of btrfs of a later transaction than the superblock's: a commit writes the superblock last, and a freeze
 * commits, so on a frozen copy there is none. Only blocks with a right checksum count. Reads the whole device once.
 */
export async function findNewerBtrfsMetadata(
	reader: RawReader,
	superblock: BtrfsSuperblock,
	signal: AbortSignal,
): Promise<NewerMetadata> {
	const result: NewerMetadata = { newer: [], looked: 0 };
	const { nodeSizeBytes, sectorSizeBytes, checksumType } = superblock;
	const fsid = Buffer.from(superblock.metadataUuid.replaceAll("-", ""), "hex");
	const suspects: NewerBlock[] = [];
	const step = Math.min(nodeSizeBytes, Math.max(4096, sectorSizeBytes));
	await eachSector(reader, step, signal, (sector, offsetBytes) => {
		if (fsid.compare(sector, 32, 48) !== 0 || sector.toString("latin1", 0x40, 0x48) === "_BHRfS_M") return;
		if (sector.readUInt8(100) > 7) return;
		result.looked += 1;
		const writtenIn = sector.readBigUInt64LE(80);
		if (writtenIn <= superblock.generation || suspects.length >= mostNamed) return;
		suspects.push({ offsetBytes, kind: `tree ${sector.readBigInt64LE(88)}`, writtenIn });
	});
	for (const suspect of suspects) {
		const block = await reader.read(suspect.offsetBytes, nodeSizeBytes);
		const sum = btrfsChecksum(checksumType, block.subarray(32));
		if (sum === undefined || sum.equals(block.subarray(0, 32))) result.newer.push(suspect);
	}
	return result;
}

async function eachSector(
	reader: RawReader,
	sectorBytes: number,
	signal: AbortSignal,
	look: (sector: Buffer, offsetBytes: number) => void,
): Promise<void> {
	const zeros = Buffer.alloc(chunkBytes);
	for (let offset = 0; offset < reader.sizeBytes; offset += chunkBytes) {
		signal.throwIfAborted();
		const chunk = await reader.read(offset, chunkBytes);
		if (chunk.length === 0) return;
		if (chunk.equals(zeros.subarray(0, chunk.length))) continue;
		for (let at = 0; at + sectorBytes <= chunk.length; at += sectorBytes) {
			look(chunk.subarray(at, at + sectorBytes), offset + at);
		}
	}
}
