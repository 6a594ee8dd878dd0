import type { FreezeResult, FreezerEvent } from "../../../contracts/freezer-protocol.ts";
import type { CallError, FreezeCalls } from "../freeze-calls.ts";
import type { HeldFolder } from "../target-folders.ts";

/** An answer of FIFREEZE or FITHAW. */
export type FileSystemAnswer = Omit<Extract<FreezerEvent, { type: "fileSystem" }>, "type">;
export type ThawCause = Extract<FreezerEvent, { type: "thawed" }>["cause"];

/** A file system of the hold, with what is known of it. */
export type HeldFileSystem = HeldFolder & {
	state: FreezeResult;
	/** FITHAW in flight; it never rejects. There is never a second one of the same file system beside it. */
	thawing?: Promise<void>;
	/** FITHAW's last answer. */
	thawAnswer?: FileSystemAnswer;
};

export type HoldOptions = {
	readonly fileSystems: readonly HeldFileSystem[];
	readonly calls: Pick<FreezeCalls, "freeze" | "thaw">;
	readonly freezeLimitMs: number;
	/** Threads of the pool: half of them may be in FIFREEZE, so that a FITHAW always finds a free one. */
	readonly threads: number;
	/** Aborted with a `ThawCause` when the hold has to end. */
	readonly stop: AbortSignal;
	/** Called after each change of state, before the call that it announces is made. Must not wait; may throw. */
	readonly onState: () => void;
	/** What is to be told in one go, so that telling it costs no time between two calls. */
	readonly onEvents: (events: FreezerEvent[]) => void;
	readonly nowMs: () => number;
};

/** A record that can't be written holds up no thaw. What it says then is older, and names more than is frozen. */
export function recordQuietly(options: HoldOptions): void {
	try {
		options.onState();
	} catch {
		// The rescuers find less to do than they are told.
	}
}

export function byLevel(fileSystems: readonly HeldFileSystem[], order: "ascending" | "descending"): HeldFileSystem[][] {
	const levels = Map.groupBy(fileSystems, (one) => one.target.level);
	const sign = order === "ascending" ? 1 : -1;
	return [...levels].sort(([a], [b]) => sign * (a - b)).map(([, level]) => level);
}

export function withErrno(error: CallError): { errno?: string } {
	return error === undefined ? {} : { errno: error };
}
