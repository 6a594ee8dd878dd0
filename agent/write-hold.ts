import { within } from "../platform/within.ts";

/**
 * The one gate that every disk write of the agent goes through. While it is held nothing of ours touches a disk;
 * what comes meanwhile waits in memory and is done in order after the release.
 */
export type WriteHold = {
	readonly held: boolean;
	/** Writes one after the other, in the order of the calls. The promise is that of `work`. */
	write<T>(work: () => T | Promise<T>): Promise<T>;
	/** From the call on no write begins; resolves when the one in flight has ended. @throws `deadline-passed` */
	quiet(limitMs: number): Promise<void>;
	/** Lets the writes go on. */
	release(): void;
	/** Resolves when all writes that were asked for are done. Never while held. */
	drained(): Promise<void>;
};

export function makeWriteHold(): WriteHold {
	const queue: (() => Promise<void>)[] = [];
	const state = { held: false, running: undefined as Promise<void> | undefined };

	function pump(): void {
		if (state.held || state.running !== undefined) return;
		const next = queue.shift();
		if (next === undefined) return;
		state.running = next().finally(() => {
			state.running = undefined;
			pump();
		});
	}

	function write<T>(work: () => T | Promise<T>): Promise<T> {
		const done = Promise.withResolvers<T>();
		queue.push(async () => {
			try {
				done.resolve(await work());
			} catch (error) {
				done.reject(error);
			}
		});
		pump();
		return done.promise;
	}

	return {
		get held() {
			return state.held;
		},
		write,
		async quiet(limitMs) {
			state.held = true;
			if (state.running !== undefined) await within(state.running, limitMs, "the write in flight");
		},
		release() {
			state.held = false;
			pump();
		},
		drained: () => write(() => undefined),
	};
}
