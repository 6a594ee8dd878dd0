import { lacksMemoryGroups } from "../../fixtures/memory-limit.ts";
import { requireTools } from "../../fixtures/required-tools.ts";
import { lacksForShape } from "../../fixtures/shapes.ts";
import { lacksForSlowDisk } from "../../fixtures/slow-disk.ts";
import { type SweepShape, sweepShapes } from "./sweep-cells.ts";

/** Why nothing of the sweep can run here, if it can't. */
export function lacksForSweep(): string | undefined {
	return (
		requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze", "strace", "python3", "faketime") ??
		lacksMemoryGroups()
	);
}

export function findSweepShapes(): SweepShape[] {
	return sweepShapes.filter((shape) => (shape === "slow" ? lacksForSlowDisk() : lacksForShape(shape)) === undefined);
}
