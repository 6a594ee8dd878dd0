export type Random = () => number;

/** Numbers in [0, 1) that follow from the seed alone: a run can be repeated. Mulberry32 (Tommy Ettinger, public domain). */
export function createRandom(seed: number): Random {
	let state = seed >>> 0;
	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let mixed = Math.imul(state ^ (state >>> 15), state | 1);
		mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
	};
}

/** Every order is as likely as any other. */
export function shuffled<T>(values: readonly T[], random: Random): T[] {
	const rest = [...values];
	return values.map(() => rest.splice(Math.floor(random() * rest.length), 1)[0] as T);
}
