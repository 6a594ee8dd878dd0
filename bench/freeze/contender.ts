import type { Interval } from "./gaps.ts";

/** One freeze and thaw of all file systems of a case, with nothing done in between. CLOCK_MONOTONIC. */
export type Turn = {
	/** First freeze call to last thaw answer; of who does not tell, from its being asked to its last answer. */
	readonly frozen: Interval;
	/** From being asked until it has said all that it has to say. */
	readonly job: Interval;
	/** What it says of itself, in ms; by name. */
	readonly own: Readonly<Record<string, number>>;
};

export type Contender = {
	readonly name: ContenderName;
	/** Switches the kernel's `rcu_expedited` on for its freeze. */
	readonly isExpedited: boolean;
	/** Awaits `mayFreeze` when all is prepared, before the first freeze call. */
	run(mayFreeze: () => Promise<void>, signal: AbortSignal): Promise<Turn>;
};

export const contenderNames = ["agent", "freezer", "qemuGa", "fsfreeze", "floorInTurn", "floorAtOnce"] as const;
export type ContenderName = (typeof contenderNames)[number];
