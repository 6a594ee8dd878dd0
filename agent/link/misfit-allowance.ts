const burst = 100;
const everyMs = 1_000;

/**
 * How much nonsense a controller may send before the connection is ended: a burst, and then one in a while. Without it
 * a flood of refused commands fills log and processor for ever.
 */
export function makeMisfitAllowance(now: () => number = () => performance.now()): { take(): boolean } {
	const state = { left: burst, atMs: now() };
	return {
		take() {
			const nowMs = now();
			state.left = Math.min(burst, state.left + (nowMs - state.atMs) / everyMs);
			state.atMs = nowMs;
			if (state.left < 1) return false;
			state.left -= 1;
			return true;
		},
	};
}
