import { findAppeared } from "./plan-job.ts";
import type { StartedJob } from "./started-job.ts";
import { findChanged, type WriteCounts } from "./still-file-systems.ts";

const limitMs = 10_000;

/**
 * After the thaw: what appeared on the disks since the plan, and which of the file systems without a freeze changed.
 * Never rejects: what can't be looked at counts as evidence that is lost.
 */
export async function lookAgain(
	{ record, calls }: Pick<StartedJob, "record" | "calls">,
	counts: WriteCounts,
): Promise<void> {
	const { plan, request } = record;
	if (plan === undefined) return;
	const signal = AbortSignal.timeout(limitMs);
	try {
		const loaded = await calls;
		const [appeared, changed] = await Promise.all([
			findAppeared(request, plan, loaded, signal),
			findChanged(plan.maybeStill, counts, loaded, signal),
		]);
		record.uncovered.push(...appeared.uncovered, ...changed.map(({ why, disks }) => ({ why, disks })));
		record.notCovered.push(...appeared.notCovered);
		record.lookedAgain = true;
	} catch {
		record.uncovered.push(...plan.maybeStill.map(({ why, disks }) => ({ why, disks })));
	}
}
