/** What writers felt, from the times at which their writes were done. Pure. */

export type Interval = { readonly fromMs: number; readonly untilMs: number };

export type Gap = { readonly beganAtMs: number; readonly lengthMs: number };

/**
 * The longest time between two writes that any part of the interval lies in, whole: a stall that began before the
 * interval or ended after it is felt in full.
 * @throws RangeError when the writes don't reach over the interval: then a stall could be longer than what is seen.
 */
export function longestGap(doneAt: readonly number[], { fromMs, untilMs }: Interval): Gap {
	const first = doneAt[0];
	const last = doneAt.at(-1);
	if (first === undefined || last === undefined || !(first <= fromMs && last >= untilMs)) {
		throw new RangeError(`writes from ${first} to ${last} don't reach over ${fromMs} to ${untilMs}`);
	}
	let longest: Gap = { beganAtMs: fromMs, lengthMs: 0 };
	for (let index = 1; index < doneAt.length; index += 1) {
		const [before, after] = [doneAt[index - 1] as number, doneAt[index] as number];
		if (after < fromMs || before > untilMs) continue;
		if (after - before > longest.lengthMs) longest = { beganAtMs: before, lengthMs: after - before };
	}
	return longest;
}

export type Felt = {
	/** The longest gap of any writer while anything was frozen. */
	readonly frozenStallMs: number;
	/** The longest gap of any writer during the whole job. */
	readonly jobStallMs: number;
	/** From the last write of the writer that was stopped first to that of the writer that was stopped last. */
	readonly skewMs: number;
};

/** @param writers Of each file system, when its writes were done. At least one. */
export function feltBy(writers: readonly (readonly number[])[], frozen: Interval, job: Interval): Felt {
	const stalls = writers.map((doneAt) => longestGap(doneAt, frozen));
	const began = stalls.map(({ beganAtMs }) => beganAtMs);
	return {
		frozenStallMs: Math.max(...stalls.map(({ lengthMs }) => lengthMs)),
		jobStallMs: Math.max(...writers.map((doneAt) => longestGap(doneAt, job).lengthMs)),
		skewMs: Math.max(...began) - Math.min(...began),
	};
}
