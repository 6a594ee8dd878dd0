/** A short copy that was measured just now. */
export type CopySample = {
	readonly bytes: number;
	/** Until the kernel had taken it. */
	readonly acceptedMs: number;
	/** Until it lay on the target's storage. */
	readonly writtenMs: number;
};

/** The latest whole copy between the same places. */
export type RememberedCopy = { readonly bytes: number; readonly copyMs: number };

/** Up to so much the kernel is taken to hold back: it writes it out after the copy, at leisure. */
const cachedBytes = 256 * 1024 * 1024;
const overheadMs = 15;
/** Rates vary from one moment to the next. */
const caution = 1.3;

/**
 * How long copying so many bytes will take. A remembered copy counts when it was at least half as large; else a copy
 * that fits the kernel's cache goes at the sample's first rate, and what is above at the rate of its storage.
 */
export function predictCopyMs(bytes: number, sample: CopySample, remembered?: RememberedCopy): number {
	if (bytes === 0) return overheadMs;
	if (remembered !== undefined && remembered.bytes >= bytes / 2)
		return overheadMs + (caution * bytes * remembered.copyMs) / remembered.bytes;
	const sampleBytes = Math.max(1, sample.bytes);
	const fast = Math.min(bytes, cachedBytes) * (sample.acceptedMs / sampleBytes);
	const slow = Math.max(0, bytes - cachedBytes) * (Math.max(sample.acceptedMs, sample.writtenMs) / sampleBytes);
	return overheadMs + caution * (fast + slow);
}
