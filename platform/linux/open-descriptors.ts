import { readdir, readFile, readlink } from "node:fs/promises";
import { isUnder } from "./mount-lookup.ts";
import type { Mount } from "./mount-table.ts";

const pathsPerSuperblock = 8;

/**
 * Ways through other processes to file systems that no path leads to: an open descriptor (told by the mount id that
 * the kernel gives for it), or a working directory below the hidden mount point. Reads procfs only; whether a path
 * leads to a directory of the file system is for the caller to check. By superblock, at most 8 each.
 */
export async function findOpenDescriptors(
	hidden: readonly Mount[],
	signal: AbortSignal,
): Promise<Record<string, string[]>> {
	const found = new Map<string, string[]>();
	if (hidden.length === 0) return {};
	const byMountId = new Map(hidden.map((mount) => [mount.id, mount]));
	function note(superblock: string, path: string): void {
		const paths = found.get(superblock) ?? [];
		if (paths.length < pathsPerSuperblock) found.set(superblock, [...paths, path]);
	}
	for (const pid of await readdir("/proc")) {
		if (signal.aborted) break;
		if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
		const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
		// A btrfs subvolume's number does not tell its superblock, so a working directory of it could not be checked.
		for (const mount of hidden)
			if (cwd !== undefined && mount.fsType !== "btrfs" && isUnder(cwd, mount.mountPoint))
				note(mount.superblock, `/proc/${pid}/cwd`);
		for (const fd of await readdir(`/proc/${pid}/fdinfo`).catch(() => [])) {
			const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, "utf8").catch(() => "");
			const mount = byMountId.get(Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1] ?? -1));
			if (mount !== undefined) note(mount.superblock, `/proc/${pid}/fd/${fd}`);
		}
	}
	return Object.fromEntries(found);
}
