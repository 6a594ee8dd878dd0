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
			const resize = resizes.find((words) => words.includes(device) || words.includes(mountPoint));
			return { mountPoint, operation: resize?.[0]?.split("/").at(-1) ?? "none" };
		}),
	);
	// A paused balance holds the lock of the word, but runs nothing.
	return found.filter(({ operation }) => operation !== "none" && operation !== "balance paused");
}

const resizePrograms = /^(resize2fs|xfs_growfs|xfs_io|e4defrag|xfs_fsr)$/;

/** Command lines of programs that change a file system's size or layout while it is mounted. */
async function readResizes(): Promise<string[][]> {
	const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
	const lines = await Promise.all(
		pids.map(async (pid) => {
			const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
			if (!resizePrograms.test(name.trim())) return [];
			return (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0").filter((word) => word !== "");
		}),
	);
	return lines.filter((words) => words.length > 0);
}
