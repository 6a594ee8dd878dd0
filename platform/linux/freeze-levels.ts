import { fileSystemNode, reach, type StackGraph } from "./stack-graph.ts";

/**
 * The level of each superblock: a file system that stores on another (through a loop device) is frozen before it.
 * Levels begin at 0. Those of `last` come after all others, as far as the stack allows.
 */
export function freezeLevels(
	superblocks: readonly string[],
	graph: StackGraph,
	last: ReadonlySet<string>,
): Map<string, number> {
	const below = lowerFileSystems(superblocks, graph);
	const late = new Set([...last].flatMap((one) => [one, ...(below.get(one) ?? [])]));
	const levels = new Map(superblocks.map((one) => [one, 0]));
	relax(levels, below);
	const early = superblocks.filter((one) => !late.has(one)).map((one) => levels.get(one) ?? 0);
	const firstLate = Math.max(-1, ...early) + 1;
	for (const one of superblocks) if (late.has(one)) levels.set(one, Math.max(levels.get(one) ?? 0, firstLate));
	relax(levels, below);
	const used = [...new Set(levels.values())].sort((a, b) => a - b);
	return new Map([...levels].map(([one, level]) => [one, used.indexOf(level)]));
}

/** Each superblock to those among them that it stores on, directly or through layers. */
export function lowerFileSystems(superblocks: readonly string[], graph: StackGraph): Map<string, string[]> {
	return new Map(superblocks.map((one) => [one, lowersOf(one, superblocks, graph)]));
}

function lowersOf(superblock: string, among: readonly string[], graph: StackGraph): string[] {
	const reached = new Set([...reach(graph, fileSystemNode(superblock))].map((node) => node.id));
	return among.filter((one) => one !== superblock && reached.has(fileSystemNode(one)));
}

/** Longest paths. A circle can't be stacked; if facts show one, the number of rounds ends it. */
function relax(levels: Map<string, number>, below: ReadonlyMap<string, readonly string[]>): void {
	for (let round = 0; round < levels.size; round += 1) {
		let changed = false;
		for (const [upper, lowers] of below)
			for (const lower of lowers) {
				const least = (levels.get(upper) ?? 0) + 1;
				if ((levels.get(lower) ?? 0) >= least) continue;
				levels.set(lower, least);
				changed = true;
			}
		if (!changed) return;
	}
}
