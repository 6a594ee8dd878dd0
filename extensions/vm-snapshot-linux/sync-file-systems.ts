import type { FreezeCalls } from "../../platform/linux/freeze-calls.ts";
import type { HeldFolder } from "../../platform/linux/target-folders.ts";
import { untilAborted } from "./abort-reasons.ts";
import type { Clock } from "./clock.ts";

const maxRounds = 5;
/** A round that took less has nothing left to win: an idle file system syncs in a few ms. */
const worthwhileMs = 30;

/**
 * Writes out all dirty data, all file systems in parallel, while writers are not yet blocked; again while a round
 * takes much less than the one before, for what was made dirty meanwhile. A sync can't be aborted: with `signal` only
 * the waiting ends. `onSync` hears how long each one took; its error is no fault here, the freeze syncs again.
 */
export async function syncWhileItPays(
	folders: readonly HeldFolder[],
	calls: Pick<FreezeCalls, "sync">,
	options: { clock: Clock; signal: AbortSignal; onSync: (superblock: string, syncMs: number) => void; rounds?: number },
): Promise<void> {
	const { clock, signal, onSync, rounds = maxRounds } = options;
	let before = Number.POSITIVE_INFINITY;
	for (let round = 1; round <= rounds; round += 1) {
		const beganMs = clock.nowMs();
		await untilAborted(Promise.all(folders.map(syncOne)), signal);
		const tookMs = clock.nowMs() - beganMs;
		if (tookMs < worthwhileMs || tookMs > before / 2) return;
		before = tookMs;
	}

	async function syncOne({ fd, target }: HeldFolder): Promise<void> {
		const beganMs = clock.nowMs();
		await calls.sync(fd);
		onSync(target.superblock, clock.nowMs() - beganMs);
	}
}
