/** Time as a job sees it. Tests hold it. */
export type Clock = {
	/** CLOCK_MONOTONIC in ms: comparable between processes of one boot. */
	nowMs(): number;
	/** The machine's own idea of the time, for what people read. */
	utcNow(): Date;
};

export function systemClock(): Clock {
	return { nowMs: () => Number(process.hrtime.bigint()) / 1e6, utcNow: () => new Date() };
}
