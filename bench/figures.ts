/** Median of a non-empty list. */
export function median(values: readonly number[]): number {
	const sorted = values.toSorted((a, b) => a - b);
	const middle = Math.floor(sorted.length / 2);
	const upper = sorted[middle] ?? Number.NaN;
	return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export type Spread = { min: number; median: number; max: number };

export function spreadOf(values: readonly number[]): Spread {
	return { min: round(Math.min(...values)), median: round(median(values)), max: round(Math.max(...values)) };
}

export function round(value: number): number {
	return Math.round(value * 100) / 100;
}
