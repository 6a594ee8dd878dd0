/** What a probe's thread and the measuring thread share, and how it is read. */

export type ProbeSetup = {
	readonly path: string;
	/** Between a write and the next. */
	readonly pauseMs: number;
	/** Two Int32, see `probeSlots`. */
	readonly control: SharedArrayBuffer;
	/** Ring of Float64: when each write was done, CLOCK_MONOTONIC in ms. */
	readonly doneAt: SharedArrayBuffer;
};

export const probeSlots = { stop: 0, count: 1 } as const;

/** Half a minute of a probe that pauses for 2 ms. */
const ringSize = 1 << 14;

export function createProbeSetup(path: string, pauseMs: number): ProbeSetup {
	return {
		path,
		pauseMs,
		control: new SharedArrayBuffer(8),
		doneAt: new SharedArrayBuffer(ringSize * Float64Array.BYTES_PER_ELEMENT),
	};
}

export function noteDone(setup: Pick<ProbeSetup, "control" | "doneAt">, count: number, atMs: number): void {
	const times = new Float64Array(setup.doneAt);
	times[count % times.length] = atMs;
	Atomics.store(new Int32Array(setup.control), probeSlots.count, count + 1);
}

/**
 * When writes were done, oldest first: from the last one before `sinceMs` on, so that a gap which lies over that
 * instant is seen whole. What the ring has forgotten is not there.
 */
export function readDoneAt({ control, doneAt }: Pick<ProbeSetup, "control" | "doneAt">, sinceMs: number): number[] {
	const count = Atomics.load(new Int32Array(control), probeSlots.count);
	const times = new Float64Array(doneAt);
	const oldest = Math.max(0, count - times.length + 1);
	const found: number[] = [];
	for (let index = count - 1; index >= oldest; index -= 1) {
		const atMs = times[index % times.length] as number;
		found.push(atMs);
		if (atMs < sinceMs) break;
	}
	return found.reverse();
}
