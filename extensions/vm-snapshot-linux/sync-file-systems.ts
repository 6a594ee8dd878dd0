/**
 * Dirty data is written out before the freeze, while writers are not blocked: the freeze would do it with all writers
 * waiting. Writers feel a sync too, each fdatasync of theirs waits behind it; what that costs was measured, see
 * docs/decisions/0011-the-shortest-window.md.
 */
import type { FreezeCalls } from "../../platform/linux/freeze-calls.ts";
import type { HeldFolder } from "../../platform/linux/target-folders.ts";
import { untilAborted } from "./abort-reasons.ts";
import type { Clock } from "./clock.ts";

export type SyncOptions = {
	readonly clock: Clock;
	/** A sync can't be aborted: only the waiting ends, and no other begins. */
	readonly signal: AbortSignal;
	/** Hears how long each one took. Its error is no fault here, the freeze syncs again. */
	readonly onSync: (superblock: string, syncMs: number) => void;
};

const maxPasses = 5;
/** A sync that took less has nothing left to win: an idle file system syncs in a few ms. */
const worthwhileMs = 30;

/**
 * File systems that share a disk one after another, so that a writer never waits for more than one of them; different
 * disks at the same time. Each again while its sync takes much less than the one before, for what was made dirty
 * meanwhile.
 * @param groups Those of different groups share no disk.
 */
export async function syncWhileItPays(
	groups: readonly (readonly HeldFolder[])[],
	calls: Pick<FreezeCalls, "sync">,
	options: SyncOptions,
): Promise<void> {
	await untilAborted(Promise.all(groups.map((group) => syncInTurn(group, calls, options))), options.signal);
}

/** All at once: short only right after `syncWhileItPays`, for what came while others were written out. */
export async function syncTogether(
	folders: readonly HeldFolder[],
	calls: Pick<FreezeCalls, "sync">,
	options: SyncOptions,
): Promise<void> {
	await untilAborted(Promise.all(folders.map((one) => syncOne(one, calls, options))), options.signal);
}

async function syncInTurn(
	folders: readonly HeldFolder[],
	calls: Pick<FreezeCalls, "sync">,
	options: SyncOptions,
): Promise<void> {
	const before = new Map<HeldFolder, number>();
	// What is written to an upper layer is dirty in the lower one by then.
	let worthwhile = folders.toSorted((a, b) => a.target.level - b.target.level);
	for (let pass = 1; pass <= maxPasses && worthwhile.length > 0; pass += 1) {
		const again: HeldFolder[] = [];
		for (const one of worthwhile) {
			if (options.signal.aborted) return;
			const tookMs = await syncOne(one, calls, options);
			if (tookMs >= worthwhileMs && tookMs <= (before.get(one) ?? Number.POSITIVE_INFINITY) / 2) again.push(one);
			before.set(one, tookMs);
		}
		worthwhile = again;
	}
}

async function syncOne(
	{ fd, target }: HeldFolder,
	calls: Pick<FreezeCalls, "sync">,
	{ clock, onSync }: SyncOptions,
): Promise<number> {
	const beganMs = clock.nowMs();
	await calls.sync(fd);
	const tookMs = clock.nowMs() - beganMs;
	onSync(target.superblock, tookMs);
	return tookMs;
}
