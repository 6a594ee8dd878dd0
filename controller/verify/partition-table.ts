import { crc32 } from "node:zlib";
import type { RawReader } from "./raw-image.ts";

export type Partition = { offsetBytes: number; sizeBytes: number; type: string };

/** How many entries are believed: more than any tool makes, few enough to be quick on hostile bytes. */
const mostEntries = 256;

/** undefined: no valid GPT. Looks with sectors of 512 and 4096 bytes. */
export async function findGptPartitions(reader: RawReader): Promise<Partition[] | undefined> {
	for (const sectorBytes of [512, 4096]) {
		const header = parseGptHeader(await reader.read(sectorBytes, sectorBytes));
		if (!header) continue;
		const table = await reader.read(header.entriesLba * sectorBytes, header.entryBytes * header.entryCount);
		return parseGptEntries(table, header.entryBytes, sectorBytes).filter((one) => fits(one, reader));
	}
	return undefined;
}

/** Primary and logical partitions of an MBR; empty when there is none. */
export async function findMbrPartitions(reader: RawReader): Promise<Partition[]> {
	const found: Partition[] = [];
	for (const entry of parseMbr(await reader.read(0, 512))) {
		if (!isExtended(entry.type)) found.push(entry);
		else found.push(...(await logicalPartitions(reader, entry)));
	}
	return found.filter((one) => fits(one, reader));
}

export function parseGptHeader(
	bytes: Buffer,
): { entriesLba: number; entryBytes: number; entryCount: number } | undefined {
	if (bytes.length < 512 || bytes.toString("latin1", 0, 8) !== "EFI PART") return undefined;
	const headerBytes = bytes.readUInt32LE(12);
	if (headerBytes < 92 || headerBytes > 512) return undefined;
	const blanked = Buffer.from(bytes.subarray(0, headerBytes));
	blanked.writeUInt32LE(0, 16);
	if (crc32(blanked) !== bytes.readUInt32LE(16)) return undefined;
	const entriesLba = Number(bytes.readBigUInt64LE(72));
	const entryCount = Math.min(bytes.readUInt32LE(80), mostEntries);
	const entryBytes = bytes.readUInt32LE(84);
	if (entryBytes < 128 || entryBytes > 4096 || !Number.isSafeInteger(entriesLba * 4096)) return undefined;
	return { entriesLba, entryBytes, entryCount };
}

function parseGptEntries(table: Buffer, entryBytes: number, sectorBytes: number): Partition[] {
	const found: Partition[] = [];
	for (let at = 0; at + 128 <= table.length; at += entryBytes) {
		const type = table.toString("hex", at, at + 16);
		if (/^0+$/.test(type)) continue;
		const first = Number(table.readBigUInt64LE(at + 32));
		const last = Number(table.readBigUInt64LE(at + 40));
		if (last < first) continue;
		found.push({ offsetBytes: first * sectorBytes, sizeBytes: (last - first + 1) * sectorBytes, type });
	}
	return found;
}

export function parseMbr(bytes: Buffer): Partition[] {
	if (bytes.length < 512 || bytes.readUInt16LE(510) !== 0xaa55) return [];
	const found: Partition[] = [];
	for (let at = 446; at < 510; at += 16) {
		const status = bytes.readUInt8(at);
		const type = bytes.readUInt8(at + 4);
		const sectors = bytes.readUInt32LE(at + 12);
		if ((status & 0x7f) !== 0) return [];
		if (type === 0 || sectors === 0) continue;
		found.push({ offsetBytes: bytes.readUInt32LE(at + 8) * 512, sizeBytes: sectors * 512, type: type.toString(16) });
	}
	return found;
}

async function logicalPartitions(reader: RawReader, extended: Partition): Promise<Partition[]> {
	const found: Partition[] = [];
	const seen = new Set<number>();
	let at: number | undefined = extended.offsetBytes;
	while (at !== undefined && !seen.has(at) && found.length < mostEntries) {
		const here: number = at;
		seen.add(here);
		at = undefined;
		for (const entry of parseMbr(await reader.read(here, 512))) {
			if (isExtended(entry.type)) at ??= extended.offsetBytes + entry.offsetBytes;
			else found.push({ ...entry, offsetBytes: here + entry.offsetBytes });
		}
	}
	return found;
}

function isExtended(type: string): boolean {
	return type === "5" || type === "f" || type === "85";
}

function fits(partition: Partition, reader: RawReader): boolean {
	return partition.offsetBytes > 0 && partition.offsetBytes < reader.sizeBytes;
}
