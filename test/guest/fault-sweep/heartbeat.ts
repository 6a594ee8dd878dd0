/** Whether this process, and so its machine, had a processor when it wanted one. */
export type Heartbeat = Disposable & {
	/** The longest time since `sinceMs` (performance.now) that it should have run in, and did not. */
	longestGapMs(sinceMs: number): number;
};

const beatMs = 25;
/** Shorter gaps are nothing. */
const notedMs = 100;

export function startHeartbeat(): Heartbeat {
	const gaps: { endedAtMs: number; gapMs: number }[] = [];
	let lastMs = performance.now();
	const timer = setInterval(() => {
		const nowMs = performance.now();
		const gapMs = nowMs - lastMs - beatMs;
		if (gapMs > notedMs) gaps.push({ endedAtMs: nowMs, gapMs });
		lastMs = nowMs;
	}, beatMs);
	timer.unref();
	return {
		longestGapMs: (sinceMs) =>
			Math.round(gaps.reduce((most, one) => (one.endedAtMs >= sinceMs ? Math.max(most, one.gapMs) : most), 0)),
		[Symbol.dispose]: () => clearInterval(timer),
	};
}
