import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import { monotonicMs } from "../../fixtures/write-prober.ts";
import type { Lane } from "./lane.ts";
import { rest } from "./rest.ts";

const attempts = 8;

/** A job that nobody strikes and that is worth `application`: tried again where a busy machine can't copy within the hold. */
export async function runGoodJob(
	lane: Lane,
	holdLimitMs: number,
): Promise<{ jobId: string; job: ControllerJob; sinceMs: number }> {
	for (let attempt = 1; ; attempt += 1) {
		const jobId = `control-${attempt}`;
		const sinceMs = monotonicMs();
		const level = "application";
		await lane.client.orderSnapshot(lane.agentId, { jobId, level, acceptLevel: level, holdLimitMs });
		const job = await rest(lane, jobId);
		if (job?.state === "done" && job.level === level) return { jobId, job, sinceMs };
		if (attempt === attempts) throw new Error(`no job was good: ${job?.error?.code} ${job?.error?.message}`);
	}
}
