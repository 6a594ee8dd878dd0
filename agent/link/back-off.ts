/** After a restart of the controller all its agents come at once: they spread over this time. */
const firstMs = 2_000;
const longestMs = 60_000;
/** For a refusal that only a person can end. */
const refusedMs = 3_600_000;

export type BackOff = {
	/** The next pause: each time longer, and never the same for two agents. */
	next(): number;
	/** The pause after a refusal that will most likely be repeated. */
	afterRefusal(): number;
	/** The connection was a good one. */
	reset(): void;
};

export function makeBackOff(random: () => number = Math.random): BackOff {
	const state = { failures: 0 };
	return {
		next() {
			const ceilingMs = Math.min(firstMs * 2 ** state.failures, longestMs);
			const floorMs = state.failures === 0 ? 0 : ceilingMs / 2;
			state.failures += 1;
			return floorMs + random() * (ceilingMs - floorMs);
		},
		afterRefusal: () => refusedMs * (0.75 + random() / 2),
		reset() {
			state.failures = 0;
		},
	};
}
