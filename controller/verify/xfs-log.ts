import type { RawReader } from "./raw-image.ts";
import { uuidText } from "./uuid-text.ts";

/** Source of the layout: "XFS Algorithms & Data Structures" (kernel.org), journaling log. All numbers are big-endian
 * but for the items inside the operations, which are in the order of the machine that wrote them. */
export const logBlockBytes = 512;
const recordMagic = 0xfeedbabe;
const bytesPerHeader = 32768;
/** The largest log buffer that there is. */
const mostPayloadBytes = 256 * 1024;

/** A record header as it lies in one 512-byte block. A log sequence number is cycle * 2^32 + block in the log. */
export type XfsLogRecord = {
	block: number;
	lsn: bigint;
	/** Where recovery would begin when this record is the last. */
	tailLsn: bigint;
	headerBlocks: number;
	payloadBytes: number;
	operationCount: number;
	littleEndian: boolean;
};

/** undefined: no header of a record of this log at this place. */
export function parseLogRecord(
	bytes: Buffer,
	block: number,
	log: { uuid: string; blocks: number },
): XfsLogRecord | undefined {
	if (bytes.length < logBlockBytes || bytes.readUInt32BE(0) !== recordMagic) return undefined;
	const version = bytes.readUInt32BE(8);
	const payloadBytes = bytes.readUInt32BE(12);
	const lsn = bytes.readBigUInt64BE(16);
	const format = bytes.readUInt32BE(300);
	const sizeBytes = bytes.readUInt32BE(320);
	if (uuidText(bytes.subarray(304, 320)) !== log.uuid || (version !== 1 && version !== 2)) return undefined;
	if (Number(lsn & 0xffffffffn) !== block || Number(lsn >> 32n) !== bytes.readUInt32BE(4)) return undefined;
	const headerBlocks = version === 2 && sizeBytes > bytesPerHeader ? Math.ceil(sizeBytes / bytesPerHeader) : 1;
	if (headerBlocks > 8 || payloadBytes > mostPayloadBytes) return undefined;
	if (headerBlocks + payloadBytes / logBlockBytes > log.blocks) return undefined;
	return {
		block,
		lsn,
		tailLsn: bytes.readBigUInt64BE(24),
		headerBlocks,
		payloadBytes,
		operationCount: bytes.readUInt32BE(40),
		littleEndian: format !== 3,
	};
}

/** All record headers of the log that are still readable, oldest first. */
export async function readLogRecords(log: RawReader, uuid: string): Promise<XfsLogRecord[]> {
	const blocks = Math.floor(log.sizeBytes / logBlockBytes);
	const found: XfsLogRecord[] = [];
	const chunkBlocks = 4096;
	for (let first = 0; first < blocks; first += chunkBlocks) {
		const bytes = await log.read(first * logBlockBytes, Math.min(chunkBlocks, blocks - first) * logBlockBytes);
		for (let at = 0; at + logBlockBytes <= bytes.length; at += logBlockBytes) {
			if (bytes.readUInt32BE(at) !== recordMagic) continue;
			const header = bytes.subarray(at, at + logBlockBytes);
			const record = parseLogRecord(header, first + at / logBlockBytes, { uuid, blocks });
			if (record) found.push(record);
		}
	}
	return found.sort((a, b) => (a.lsn < b.lsn ? -1 : 1));
}

/** The operations of a record; a payload may wrap around the end of the log. */
export async function readPayload(log: RawReader, record: XfsLogRecord): Promise<Buffer> {
	const blocks = Math.floor(log.sizeBytes / logBlockBytes);
	const wanted = record.headerBlocks + Math.ceil(record.payloadBytes / logBlockBytes);
	const beforeEnd = Math.min(wanted, blocks - record.block);
	const first = await log.read(record.block * logBlockBytes, beforeEnd * logBlockBytes);
	const rest = wanted > beforeEnd ? await log.read(0, (wanted - beforeEnd) * logBlockBytes) : Buffer.alloc(0);
	return unpackPayload(Buffer.concat([first, rest]), record);
}

/** Each block of the log begins with its cycle number; what it stands for is kept in the headers. */
export function unpackPayload(bytes: Buffer, record: XfsLogRecord): Buffer {
	const headers = bytes.subarray(0, record.headerBlocks * logBlockBytes);
	const payload = Buffer.from(bytes.subarray(headers.length, headers.length + record.payloadBytes));
	for (let at = 0, index = 0; at + 4 <= payload.length; at += logBlockBytes, index += 1) {
		const from = index < 64 ? 44 + index * 4 : Math.floor(index / 64) * logBlockBytes + 4 + (index % 64) * 4;
		if (from + 4 <= headers.length) headers.copy(payload, at, from, from + 4);
	}
	return payload;
}

export type RecordContent = "superblock-only" | "unmount" | "other";

const unmountFlag = 0x20;
const continuedFlags = 0x04 | 0x08;
const bufferItem = 0x123c;

/** Whether a record carries nothing but the superblock (the dummy of a freeze), an unmount mark, or real changes. */
export function classifyPayload(payload: Buffer, record: XfsLogRecord): RecordContent {
	const u16 = (at: number) => (record.littleEndian ? payload.readUInt16LE(at) : payload.readUInt16BE(at));
	let at = 0;
	let dataRegions = 0;
	let unmount = false;
	for (let index = 0; index < record.operationCount; index += 1) {
		if (at + 12 > payload.length) return "other";
		const length = payload.readUInt32BE(at + 4);
		const flags = payload.readUInt8(at + 9);
		const body = at + 12;
		at = body + length;
		if (at > payload.length || (flags & continuedFlags) !== 0) return "other";
		if (flags & unmountFlag) unmount = true;
		else if (length === 0 || isTransactionHeader(payload.subarray(body, at))) dataRegions += 0;
		else if (dataRegions > 0) dataRegions -= 1;
		else if (length >= 24 && u16(body) === bufferItem && isSuperblockItem(payload, body)) {
			dataRegions = u16(body + 2) - 1;
		} else return "other";
	}
	return unmount ? "unmount" : "superblock-only";
}

/** A buffer item names its disk address at byte 8: the superblock's is 0. */
function isSuperblockItem(payload: Buffer, body: number): boolean {
	return payload.readBigUInt64LE(body + 8) === 0n;
}

function isTransactionHeader(bytes: Buffer): boolean {
	const text = bytes.toString("latin1", 0, 4);
	return bytes.length === 16 && (text === "NART" || text === "TRAN");
}
