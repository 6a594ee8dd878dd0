import type { Mount } from "./mount-table.ts";

/**
 * The mount that a walk along `path` ends in, as the kernel would find it: a mount over a directory hides
 * everything that was mounted below it before. `path` is absolute and holds no symbolic links.
 */
export function findMountOf(mounts: readonly Mount[], path: string): Mount | undefined {
	const ids = new Set(mounts.map((mount) => mount.id));
	let current = mounts.find((mount) => mount.mountPoint === "/" && !ids.has(mount.parentId)) ?? rootOf(mounts);
	const seen = new Set<number>();
	while (current !== undefined && !seen.has(current.id)) {
		seen.add(current.id);
		const next = firstBelow(mounts, current, path);
		if (next === undefined) return current;
		current = next;
	}
	return current;
}

/** Whether its mount point leads to this mount, and not to one that lies over it. */
export function isVisible(mounts: readonly Mount[], mount: Mount): boolean {
	return findMountOf(mounts, mount.mountPoint)?.id === mount.id;
}

export function isUnder(path: string, folder: string): boolean {
	return folder === "/" || path === folder || path.startsWith(`${folder}/`);
}

function rootOf(mounts: readonly Mount[]): Mount | undefined {
	return mounts.find((mount) => mount.mountPoint === "/");
}

/** The child mount of `parent` that the walk meets first: the one with the shortest mount point. */
function firstBelow(mounts: readonly Mount[], parent: Mount, path: string): Mount | undefined {
	let found: Mount | undefined;
	for (const mount of mounts) {
		if (mount.parentId !== parent.id || mount.id === parent.id || !isUnder(path, mount.mountPoint)) continue;
		if (found === undefined || mount.mountPoint.length < found.mountPoint.length) found = mount;
	}
	return found;
}
