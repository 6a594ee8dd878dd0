/** Whether the folder of a process lies on what a job covers, by the mount table that the process has. */
import { indexMounts, type MountLookup } from "../../platform/linux/mount-lookup.ts";
import { readMountTable } from "../../platform/linux/mount-table.ts";
import type { Process } from "./processes.ts";

/**
 * Nothing is asked of the folders themselves: one on a dead network mount would hang. A server in a container counts when
 * its volume is one of ours, and not when it works on copies that are mounted for it alone.
 */
export async function makeIsCovered(
	processes: readonly Process[],
	/** Superblocks of the plan. */
	covered: ReadonlySet<string>,
): Promise<(folder: string, process: Process) => boolean> {
	const own = indexMounts(await readMountTable());
	const others = new Map<number, MountLookup | undefined>();
	for (const { pid } of processes.filter((one) => one.isElsewhere === true))
		others.set(pid, await readMountTable(pid).then(indexMounts, () => undefined));
	return (folder, { pid, isElsewhere, root = "/" }) => {
		if (isElsewhere !== true) return covered.has(own.find(folder)?.superblock ?? "");
		const lookup = others.get(pid);
		// The table begins at the root of the process, the link to its folder at that of its namespace.
		const seen = root !== "/" && folder.startsWith(`${root}/`) ? folder.slice(root.length) : folder;
		const mount = lookup?.find(seen);
		// What lies below an overlay is not told there: rather one server too many is named.
		return mount === undefined || mount.fsType === "overlay" || covered.has(mount.superblock);
	};
}
