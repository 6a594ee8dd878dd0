/** 16 raw bytes as lower-case UUID text, in the order in which they lie on the disk. */
export function uuidText(bytes: Uint8Array): string {
	const hex = Buffer.from(bytes).toString("hex");
	return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join("-");
}
