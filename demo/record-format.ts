import { crc32 } from "node:zlib";

/** One 4 KiB record of a plain writer: sequence number, then filler, then a checksum over both. */
export const recordBytes = 4096;

export function encodeRecord(sequence: number): Buffer {
	const record = Buffer.alloc(recordBytes, sequence & 0xff);
	record.writeBigUInt64LE(BigInt(sequence), 0);
	record.writeUInt32LE(crc32(record.subarray(0, recordBytes - 4)), recordBytes - 4);
	return record;
}

/** How many records from the start of the file are whole and in order: 0, 1, 2, ... */
export function countWholeRecords(file: Buffer): number {
	for (let sequence = 0; ; sequence += 1) {
		const record = file.subarray(sequence * recordBytes, (sequence + 1) * recordBytes);
		if (record.length < recordBytes || !record.equals(encodeRecord(sequence))) return sequence;
	}
}
