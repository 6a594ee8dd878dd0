/**
 * What lies on what, from file systems down to disks.
 *
 *   file system -> partition -> disk
 *   file system -> dm, md, bcache -> partitions or disks
 *   file system -> loop device -> file system that carries the file -> ...
 *
 * Device nodes are named "MAJOR:MINOR", file system nodes "fs:MAJOR:MINOR" by their superblock.
 */
export type StackNode = {
	readonly id: string;
	readonly kind: "device" | "file-system";
	/** Kernel name of a device; type of a file system. */
	readonly name: string;
	/** A block device that is not a partition. */
	readonly isDisk: boolean;
	/** Ids of the nodes that it stores on. A file system without block storage has none. */
	readonly lowers: readonly string[];
	/** Something below it could not be identified: it may lie on any disk. */
	readonly storageUnknown: boolean;
};
export type StackGraph = ReadonlyMap<string, StackNode>;

export function fileSystemNode(superblock: string): string {
	return `fs:${superblock}`;
}

/** Whether any storage of the node lies on an included disk, or might. */
export function touches(graph: StackGraph, id: string, included: ReadonlySet<string>): boolean {
	for (const node of reach(graph, id)) {
		if (included.has(node.id)) return true;
		if (node.storageUnknown && included.size > 0) return true;
	}
	return false;
}

/**
 * Whether all storage of the node lies on included disks: it is included itself,
 * or it has lowers and every one of them is covered.
 */
export function covered(graph: StackGraph, id: string, included: ReadonlySet<string>): boolean {
	const open = new Set<string>();
	const known = new Map<string, boolean>();
	function isCovered(one: string): boolean {
		const before = known.get(one);
		if (before !== undefined) return before;
		const node = graph.get(one);
		if (included.has(one)) return true;
		// A loop in the graph can't be: a node that is being asked about proves nothing.
		if (node === undefined || node.storageUnknown || node.lowers.length === 0 || open.has(one)) return false;
		open.add(one);
		const answer = node.lowers.every(isCovered);
		open.delete(one);
		known.set(one, answer);
		return answer;
	}
	return isCovered(id);
}

/** The disks below a node (and itself, when it is one). */
export function disksOf(graph: StackGraph, id: string): string[] {
	return [...reach(graph, id)].filter((node) => node.isDisk).map((node) => node.id);
}

/** A disk that is built of nothing else. */
export function isRootDisk(node: StackNode): boolean {
	return node.isDisk && node.lowers.length === 0 && !node.storageUnknown;
}

/** The node and everything below it, each once. */
export function* reach(graph: StackGraph, id: string): Generator<StackNode> {
	const queue = [id];
	const seen = new Set(queue);
	for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
		const node = graph.get(next);
		if (node === undefined) continue;
		yield node;
		for (const lower of node.lowers) {
			if (seen.has(lower)) continue;
			seen.add(lower);
			queue.push(lower);
		}
	}
}
