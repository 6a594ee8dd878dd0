/**
 * A foreign thaw and refreeze inside the window is seen by no FIFREEZE or FITHAW, but it writes: the devices of a file
 * system that was frozen all along complete no write. Measured for these types, over 40 s, after heavy writing. What
 * is swapped out to a file goes past the freeze, so a file system with a swap file is not watched.
 */
import { findWriteCount } from "../../platform/linux/block-devices.ts";
import type { StorageFacts } from "../../platform/linux/storage-facts.ts";

/** Superblock to the numbers of its devices. */
export type WatchedDevices = ReadonlyMap<string, readonly string[]>;
export type WriteCountsNow = ReadonlyMap<string, readonly (number | undefined)[]>;

const watchedTypes: readonly string[] = ["ext2", "ext3", "ext4", "xfs", "btrfs"];

export function watchedDevices(facts: Pick<StorageFacts, "fileSystems" | "swaps">): WatchedDevices {
	const watched = facts.fileSystems.filter(
		({ superblock, fsType }) =>
			watchedTypes.includes(fsType) && !facts.swaps.some(({ carrier }) => carrier === superblock),
	);
	return new Map(watched.map(({ superblock, devices }) => [superblock, devices]));
}

export function countWritesNow(watched: WatchedDevices): WriteCountsNow {
	return new Map([...watched].map(([superblock, devices]) => [superblock, devices.map(findWriteCount)]));
}

/** Superblocks whose devices completed a write in between. */
export function findWritten(before: WriteCountsNow, after: WriteCountsNow): string[] {
	return [...before].flatMap(([superblock, counts]) =>
		counts.every((count, index) => count === after.get(superblock)?.[index]) ? [] : [superblock],
	);
}
