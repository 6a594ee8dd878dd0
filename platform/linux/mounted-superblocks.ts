import { indexMounts } from "./mount-lookup.ts";
import type { Mount } from "./mount-table.ts";
import type { StorageFacts } from "./storage-facts.ts";

/** A way to open a file system: its mount point, and the path that leads there from here. */
export type Reach = { readonly mountPoint: string; readonly openPath: string };

/** All mounts of one superblock, of all mount namespaces, seen as one. */
export type MountedSuperblock = {
	readonly superblock: string;
	readonly fsType: string;
	readonly source: string;
	/** The best mount point to call it by. */
	readonly mountPoint: string;
	/** Every mount point, each once. */
	readonly mountPoints: readonly string[];
	/** All but the best one. */
	readonly aliases: readonly string[];
	/** Paths that lead to it, best first, through other processes last; none: nothing leads to it. */
	readonly reaches: readonly Reach[];
	/** Nobody can write through any mount. A read-only mount of a writable file system is not that. */
	readonly readOnly: boolean;
};

type Seen = { readonly mount: Mount; readonly openPath: string; readonly visible: boolean; readonly own: boolean };

/** In the order of our own mount table, then the other namespaces'. */
export function groupMounts(facts: Pick<StorageFacts, "mounts" | "namespaces" | "descriptors">): MountedSuperblock[] {
	const seen = [
		...see(facts.mounts, "", true),
		...facts.namespaces.flatMap(({ pid, mounts }) => see(mounts, `/proc/${pid}/root`, false)),
	];
	return [...Map.groupBy(seen, ({ mount }) => mount.superblock)].map(([superblock, group]) => {
		const sorted = group.toSorted(compare);
		const best = (sorted[0] as Seen).mount;
		const mountPoints = [...new Set(sorted.map(({ mount }) => mount.mountPoint))];
		return {
			superblock,
			fsType: best.fsType,
			source: best.source,
			mountPoint: best.mountPoint,
			mountPoints,
			aliases: mountPoints.slice(1),
			reaches: [
				...sorted
					.filter(({ visible }) => visible)
					.map(({ mount, openPath }) => ({ mountPoint: mount.mountPoint, openPath })),
				...(facts.descriptors[superblock] ?? []).map((openPath) => ({ mountPoint: best.mountPoint, openPath })),
			],
			readOnly: group.every(({ mount }) => mount.superOptions.includes("ro")),
		};
	});
}

function see(mounts: readonly Mount[], prefix: string, own: boolean): Seen[] {
	const lookup = indexMounts(mounts);
	return mounts.map((mount) => ({
		mount,
		openPath: `${prefix}${mount.mountPoint}`,
		visible: lookup.isVisible(mount),
		own,
	}));
}

/** Visible before hidden, ours before others', the file system's root before a folder of it, then the shorter path. */
function compare(a: Seen, b: Seen): number {
	return (
		Number(b.visible) - Number(a.visible) ||
		Number(b.own) - Number(a.own) ||
		rootDepth(a.mount) - rootDepth(b.mount) ||
		a.mount.mountPoint.length - b.mount.mountPoint.length
	);
}

function rootDepth(mount: Mount): number {
	return mount.root === "/" ? 0 : mount.root.split("/").length;
}
