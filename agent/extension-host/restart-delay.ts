/** Exponential back-off with jitter, forgotten after a quiet time. */
export type RestartDelay = {
	/** How long to wait before the next start, when the last one lived for `livedMs`. */
	nextMs(livedMs: number): number;
};

export function makeRestartDelay(
	limits: { restartFirstMs: number; restartLastMs: number; quietMs: number },
	random: () => number = Math.random,
): RestartDelay {
	const state = { doubled: 0 };
	return {
		nextMs(livedMs) {
			if (livedMs >= limits.quietMs) state.doubled = 0;
			const fullMs = Math.min(limits.restartLastMs, limits.restartFirstMs * 2 ** state.doubled);
			state.doubled += 1;
			// From half of it to the whole: many machines must not start again at one instant.
			return fullMs * (0.5 + random() / 2);
		},
	};
}
