import { fileSystemNode, reach, type StackGraph } from "./stack-graph.ts";

/**
 * Superblocks in groups: what is written to those of different groups goes to different disks, through however many
 * layers. All whose storage is not wholly known share one group.
 */
export function groupByDisk(superblocks: readonly string[], graph: StackGraph): string[][] {
	let groups: { superblocks: string[]; roots: Set<string> }[] = [];
	for (const superblock of superblocks) {
		const roots = rootsOf(superblock, graph);
		const same = groups.filter((one) => [...roots].some((root) => one.roots.has(root)));
		groups = [
			...groups.filter((one) => !same.includes(one)),
			{
				superblocks: [...same.flatMap((one) => one.superblocks), superblock],
				roots: new Set([...same.flatMap((one) => [...one.roots]), ...roots]),
			},
		];
	}
	return groups.map((one) => one.superblocks);
}

/** What lies at the bottom: disks, and what is no block device. */
function rootsOf(superblock: string, graph: StackGraph): Set<string> {
	const nodes = [...reach(graph, fileSystemNode(superblock))];
	const roots = nodes.filter((node) => node.lowers.length === 0).map((node) => node.id);
	return new Set(nodes.some((node) => node.storageUnknown) ? [...roots, "unknown"] : roots);
}
