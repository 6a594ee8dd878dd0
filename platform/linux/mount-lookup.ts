import type { Mount } from "./mount-table.ts";

/** Where a walk along paths ends, in one mount table that is asked many times: anybody may mount thousands of times. */
export type MountLookup = {
	/**
	 * The mount that a walk along `path` ends in, as the kernel would find it: a mount over a directory hides
	 * everything that was mounted below it before. `path` is absolute and holds no symbolic links.
	 */
	find(path: string): Mount | undefined;
	/** Whether its mount point leads to this mount, and not to one that lies over it. */
	isVisible(mount: Mount): boolean;
};

export function indexMounts(mounts: readonly Mount[]): MountLookup {
	const ids = new Set(mounts.map((mount) => mount.id));
	const roots = mounts.filter((mount) => mount.mountPoint === "/");
	const root = roots.find((mount) => !ids.has(mount.parentId)) ?? roots[0];
	const children = childrenOf(mounts);

	function find(path: string): Mount | undefined {
		const seen = new Set<number>();
		let current = root;
		while (current !== undefined && !seen.has(current.id)) {
			seen.add(current.id);
			const next: Mount | undefined = firstMet(children.get(current.id), path);
			if (next === undefined) return current;
			current = next;
		}
		return current;
	}

	return { find, isVisible: (mount) => find(mount.mountPoint)?.id === mount.id };
}

/** As `MountLookup.find`, once. */
export function findMountOf(mounts: readonly Mount[], path: string): Mount | undefined {
	return indexMounts(mounts).find(path);
}

/** As `MountLookup.isVisible`, once. */
export function isVisible(mounts: readonly Mount[], mount: Mount): boolean {
	return indexMounts(mounts).isVisible(mount);
}

export function isUnder(path: string, folder: string): boolean {
	return folder === "/" || path === folder || path.startsWith(`${folder}/`);
}

/** By the parent's id and the mount point; of several at one place the first. */
function childrenOf(mounts: readonly Mount[]): Map<number, Map<string, Mount>> {
	const children = new Map<number, Map<string, Mount>>();
	for (const mount of mounts) {
		if (mount.parentId === mount.id) continue;
		const beside = children.get(mount.parentId) ?? new Map<string, Mount>();
		children.set(mount.parentId, beside);
		if (!beside.has(mount.mountPoint)) beside.set(mount.mountPoint, mount);
	}
	return children;
}

/** The child that the walk meets first: the one with the shortest mount point. */
function firstMet(below: ReadonlyMap<string, Mount> | undefined, path: string): Mount | undefined {
	if (below === undefined) return undefined;
	const folders = path.split("/").length;
	// Thousands of children are not gone through for each path, nor thousands of folders for a few children.
	const met = below.size > folders * path.length ? foldersAbove(path) : [...below.keys()];
	let found: Mount | undefined;
	for (const folder of met) {
		const mount = isUnder(path, folder) ? below.get(folder) : undefined;
		if (mount !== undefined && (found === undefined || folder.length < found.mountPoint.length)) found = mount;
	}
	return found;
}

/** The path itself and every folder that it is under. */
function foldersAbove(path: string): string[] {
	const folders = ["/", path];
	for (let end = path.indexOf("/"); end >= 0; end = path.indexOf("/", end + 1)) folders.push(path.slice(0, end));
	return folders;
}
