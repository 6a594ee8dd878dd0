const table = makeTable();

/** CRC-32C (Castagnoli, reflected) without the final inversion, as ext4 and jbd2 keep it; start with 0xffffffff. */
export function rawCrc32c(start: number, bytes: Uint8Array): number {
	let crc = start >>> 0;
	for (const byte of bytes) crc = (crc >>> 8) ^ (table[(crc ^ byte) & 0xff] as number);
	return crc >>> 0;
}

/** CRC-32C in its usual form, as XFS and btrfs keep it. */
export function crc32c(...parts: Uint8Array[]): number {
	return ~parts.reduce(rawCrc32c, 0xffffffff) >>> 0;
}

function makeTable(): Uint32Array {
	return Uint32Array.from({ length: 256 }, (_, index) => {
		let value = index;
		for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
		return value;
	});
}
