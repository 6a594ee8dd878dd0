import type { Order } from "../../../contracts/order.ts";
import type { ScriptJob } from "../../../contracts/script-input.ts";
import type { JobPlan } from "../plan-job.ts";

/** What all scripts of a job are told of it. */
export function scriptJobOf(
	{ jobId, level }: Pick<Order, "jobId" | "level">,
	plan: Pick<JobPlan, "disks" | "targets"> | undefined,
): ScriptJob {
	return {
		jobId,
		level,
		disks: (plan?.disks ?? []).filter(({ included }) => included).map(({ name }) => name),
		fileSystems: (plan?.targets ?? []).map(({ mountPoint, superblock }) => ({ mountPoint, superblock })),
	};
}
