/** Of a hold, what must be left for freezing, messages and thawing. */
export function holdMarginMs(holdLimitMs: number): number {
	return Math.min(2_000, Math.max(50, holdLimitMs * 0.2));
}

export function fitsHold(predictedMs: number, holdLimitMs: number): boolean {
	return predictedMs <= holdLimitMs - holdMarginMs(holdLimitMs);
}

/** Of the time that is left when everything is frozen: for `done` on its way, and for thawing. */
export function takeMarginMs(leftMs: number): number {
	return Math.min(1_000, Math.max(20, leftMs * 0.1));
}
