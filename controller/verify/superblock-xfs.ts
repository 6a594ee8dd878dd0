import { crc32c } from "./crc32c.ts";
import { uuidText } from "./uuid-text.ts";

/** Source of the layout: "XFS Algorithms & Data Structures" (kernel.org), superblocks. */
export const xfsSuperblockAt = { offsetBytes: 0, lengthBytes: 512 } as const;

export type XfsSuperblock = {
	uuid: string;
	/** What metadata and log carry: `uuid` unless it was changed after mkfs. */
	metadataUuid: string;
	/** Version 5: metadata carries checksums and log sequence numbers. */
	selfDescribing: boolean;
	blockSizeBytes: number;
	sectorSizeBytes: number;
	blockCount: number;
	/** Blocks of one allocation group, and how many groups. */
	groupBlocks: number;
	groupCount: number;
	/** Of the internal log, in bytes from the start of the file system; undefined when it lies on another device. */
	logOffsetBytes: number | undefined;
	logSizeBytes: number;
	/** undefined: version 4 carries none. */
	checksumOk: boolean | undefined;
};

/** undefined: these bytes are no XFS superblock. */
export function parseXfsSuperblock(bytes: Buffer): XfsSuperblock | undefined {
	if (bytes.length < 512 || bytes.toString("latin1", 0, 4) !== "XFSB") return undefined;
	const blockSizeBytes = bytes.readUInt32BE(4);
	const sectorSizeBytes = bytes.readUInt16BE(102);
	const groupBlocks = bytes.readUInt32BE(84);
	const groupCount = bytes.readUInt32BE(88);
	const groupBlocksLog = bytes.readUInt8(124);
	if (!isPowerOfTwo(blockSizeBytes, 512, 65536) || !isPowerOfTwo(sectorSizeBytes, 512, 32768)) return undefined;
	if (groupBlocks === 0 || groupCount === 0 || groupBlocksLog > 31) return undefined;
	const selfDescribing = (bytes.readUInt16BE(100) & 0xf) === 5;
	const hasMetadataUuid = selfDescribing && (bytes.readUInt32BE(216) & 0x4) !== 0;
	const uuid = uuidText(bytes.subarray(32, 48));
	const logStart = bytes.readBigUInt64BE(48);
	const group = logStart >> BigInt(groupBlocksLog);
	const block = logStart & ((1n << BigInt(groupBlocksLog)) - 1n);
	return {
		uuid,
		metadataUuid: hasMetadataUuid ? uuidText(bytes.subarray(248, 264)) : uuid,
		selfDescribing,
		blockSizeBytes,
		sectorSizeBytes,
		blockCount: Number(bytes.readBigUInt64BE(8)),
		groupBlocks,
		groupCount,
		logOffsetBytes: logStart === 0n ? undefined : (Number(group) * groupBlocks + Number(block)) * blockSizeBytes,
		logSizeBytes: bytes.readUInt32BE(96) * blockSizeBytes,
		checksumOk: selfDescribing && sectorSizeBytes === 512 ? sectorChecksumOk(bytes, 224) : undefined,
	};
}

/** Whether a metadata sector carries its own CRC-32C (little-endian, taken over the sector with that field zero). */
export function sectorChecksumOk(sector: Buffer, checksumAt: number): boolean {
	const sum = crc32c(sector.subarray(0, checksumAt), Buffer.alloc(4), sector.subarray(checksumAt + 4));
	return sum === sector.readUInt32LE(checksumAt);
}

function isPowerOfTwo(value: number, least: number, most: number): boolean {
	return value >= least && value <= most && (value & (value - 1)) === 0;
}
