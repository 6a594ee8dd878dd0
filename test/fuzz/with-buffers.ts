/** What was cloned between threads: a `Buffer` arrives as a plain `Uint8Array`. */
export function withBuffers(value: unknown): unknown {
	if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
	if (Array.isArray(value)) return value.map(withBuffers);
	return value;
}
