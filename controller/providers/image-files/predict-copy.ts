/** A short copy that was measured just now. */
export type CopySample = {
	readonly bytes: number;
	/** Until the kernel had taken it. */
	readonly acceptedMs: number;
	/** Until it lay on the target's storage. */
	readonly writtenMs: number;
};

/** A whole copy between the same places, some time ago. */
export type RememberedCopy = { readonly bytes: number; readonly copyMs: number };

/** So many of the latest are remembered. */
export const rememberedCopies = 3;
/** Up to so much the kernel is taken to hold back: it writes it out after the copy, at leisure. */
const cachedBytes = 256 * 1024 * 1024;
const overheadMs = 15;
/** A whole copy tells more than a sample; measured on a shared machine, rates vary by these factors and more. */
const caution = { remembered: 1.3, sample: 2 };
/** A slow memory counts for at most this many times the sample: a job that is refused for it makes no newer one. */
const slowestMemory = 3;

/**
 * How long copying so many bytes will take. By the slowest remembered copy that was at least half as large; without
 * one by the sample: what fits the kernel's cache at its first rate, what is above at the rate of its storage.
 */
export function predictCopyMs(bytes: number, sample: CopySample, remembered: readonly RememberedCopy[] = []): number {
	if (bytes === 0) return overheadMs;
	const sampleBytes = Math.max(1, sample.bytes);
	const fast = Math.min(bytes, cachedBytes) * (sample.acceptedMs / sampleBytes);
	const slow = Math.max(0, bytes - cachedBytes) * (Math.max(sample.acceptedMs, sample.writtenMs) / sampleBytes);
	const bySample = caution.sample * (fast + slow);
	const alike = remembered.filter((copy) => copy.bytes >= bytes / 2);
	if (alike.length === 0) return overheadMs + bySample;
	const byMemory = Math.max(...alike.map((copy) => (caution.remembered * bytes * copy.copyMs) / copy.bytes));
	return overheadMs + Math.min(byMemory, slowestMemory * bySample);
}
