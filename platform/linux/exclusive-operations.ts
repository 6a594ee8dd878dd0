import { readdir, readFile } from "node:fs/promises";
import { readBtrfsOperation } from "./live-superblocks.ts";

/** Something that would make a FIFREEZE wait until it is over, with every writer stalled meanwhile. */
export type ExclusiveOperation = { readonly mountPoint: string; readonly operation: string };

export type MaybeBusy = {
	readonly mountPoint: string;
	readonly fsType: string;
	readonly uuid?: string;
	/** Path of its device. */
	readonly device: string;
};

/**
 * What can be seen before a freeze: btrfs tells its exclusive operation (balance, resize, device removal, ...). ext4
 * and xfs tell nothing, so a resize is seen by its program, by name and argument. A look at one instant, no lock.
 */
export async function findExclusiveOperations(fileSystems: readonly MaybeBusy[]): Promise<ExclusiveOperation[]> {
	const resizes = fileSystems.some((one) => one.fsType !== "btrfs") ? await readResizes() : [];
	const found = await Promise.all(
		fileSystems.map(async ({ mountPoint, fsType, uuid, device }) => {
			if (fsType === "btrfs")
				return { mountPoint, operation: uuid === undefined ? "none" : await readBtrfsOperation(uuid) };
			const resize = resizes.find(({ words }) => words.includes(device) || words.includes(mountPoint));
			return { mountPoint, operation: resize?.name ?? "none" };
		}),
	);
	// A paused balance holds the lock of the word, but runs nothing.
	return found.filter(({ operation }) => operation !== "none" && operation !== "balance paused");
}

const resizePrograms = /^(resize2fs|xfs_growfs|xfs_io|e4defrag|xfs_fsr)$/;

/** Programs that change the size or layout of a mounted file system, with the words of their command lines. */
async function readResizes(): Promise<{ name: string; words: string[] }[]> {
	const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry));
	const found = await Promise.all(
		pids.map(async (pid) => {
			const name = (await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "")).trim();
			if (!resizePrograms.test(name)) return [];
			const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
			return [{ name, words: line.split("\0") }];
		}),
	);
	return found.flat();
}
