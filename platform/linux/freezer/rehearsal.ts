import type { FreezerEvent } from "../../../contracts/freezer-protocol.ts";
import type { FreezeCalls } from "../freeze-calls.ts";
import { freezeAll } from "./freeze-all.ts";
import type { HeldFileSystem, HoldOptions } from "./hold.ts";
import { thawAll } from "./thaw-all.ts";

/** Enough that the engine has compiled what is run; each takes about a millisecond. */
const rounds = 3;

/**
 * Freezes and thaws what does not exist, as often as there are file systems: the calls go to the kernel with no
 * descriptor, and answer EBADF. So the first FIFREEZE and the first FITHAW find their code compiled, the threads of the
 * pool started, and the memory of each call mapped.
 */
export async function rehearse(
	fileSystems: readonly HeldFileSystem[],
	given: Pick<HoldOptions, "calls" | "threads" | "nowMs">,
): Promise<void> {
	const options: HoldOptions = {
		...given,
		calls: toNothing(given.calls),
		fileSystems: [],
		freezeLimitMs: 60_000,
		stop: new AbortController().signal,
		onState: () => undefined,
		onEvents: (events: FreezerEvent[]) => void JSON.stringify(events),
	};
	for (let round = 0; round < rounds; round += 1) {
		const nothing = fileSystems.map(({ target }): HeldFileSystem => ({ target, fd: -1, state: "pending" }));
		await freezeAll({ ...options, fileSystems: nothing }, new Map());
		await thawAll({ ...options, fileSystems: nothing }, new Map());
	}
}

function toNothing(calls: Pick<FreezeCalls, "freeze" | "thaw">): Pick<FreezeCalls, "freeze" | "thaw"> {
	return {
		freeze: () => calls.freeze(-1).then(() => undefined),
		thaw: () => calls.thaw(-1).then(() => undefined),
	};
}
