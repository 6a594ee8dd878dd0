/** Whether something grows, from a series of what it was. Pure. */

export type Point = { readonly x: number; readonly y: number };

/** Of the straight line with the least squares; 0 for a single point. */
export function slopeOf(points: readonly Point[]): number {
	const mean = (values: readonly number[]) => values.reduce((sum, one) => sum + one, 0) / values.length;
	const [x, y] = [mean(points.map((one) => one.x)), mean(points.map((one) => one.y))];
	const spread = points.reduce((sum, one) => sum + (one.x - x) ** 2, 0);
	return spread === 0 ? 0 : points.reduce((sum, one) => sum + (one.x - x) * (one.y - y), 0) / spread;
}

/** The later half: before it, a program still fills its caches. */
export function laterHalf<T>(series: readonly T[]): T[] {
	return series.slice(Math.floor(series.length / 2));
}
