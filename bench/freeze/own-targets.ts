import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";
import { reachTargets } from "../../platform/linux/reach-targets.ts";
import type { LoopFileSystem } from "../../test/fixtures/loop-file-system.ts";
import { planLoops } from "../../test/fixtures/planned-targets.ts";

const limitMs = 20_000;

/**
 * The file systems as targets of the freezer, and no others: the plan takes in what could lie on these disks, too, such
 * as a file system of somebody else's whose loop is just being taken away.
 */
export async function readOwnTargets(fileSystems: readonly LoopFileSystem[]): Promise<readonly FreezeTarget[]> {
	const include = fileSystems.map(({ mountPoint }) => ({ mountPoint }));
	const plan = await planLoops(fileSystems, { include, exclude: [] });
	const { targets, notReached } = await reachTargets(plan.targets, AbortSignal.timeout(limitMs));
	const found = targets.map(({ mountPoint }) => mountPoint).sort();
	const wanted = include.map(({ mountPoint }) => mountPoint).sort();
	if (notReached.length > 0 || found.join() !== wanted.join()) {
		throw new Error(`planned ${found.join(", ")} instead of ${wanted.join(", ")}: ${JSON.stringify(notReached)}`);
	}
	return targets;
}
