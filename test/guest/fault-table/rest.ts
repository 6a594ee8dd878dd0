import { setTimeout as sleep } from "node:timers/promises";
import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import { asStillpointError } from "../../../contracts/errors.ts";
import type { Lane } from "./lane.ts";

const restLimitMs = 60_000;
const restPollMs = 80;

/** Nothing of the job runs any more, and its report is with the controller. Undefined: the controller never knew it. */
export async function rest(lane: Lane, jobId: string): Promise<ControllerJob | undefined> {
	const endMs = performance.now() + restLimitMs;
	for (;;) {
		const { job: running, link } = await lane.status();
		const rests = running === undefined && link.connected && link.unsentReports === 0;
		const job = rests ? await lane.client.readJob(jobId).catch(findNothing) : undefined;
		if (rests && (job === undefined || job.state === "done" || job.state === "failed")) return job;
		if (performance.now() > endMs) {
			const state = { running, link, job: job?.state };
			throw new Error(`no rest after ${restLimitMs} ms: ${JSON.stringify(state)}`);
		}
		await sleep(restPollMs);
	}
}

/** Only a controller that says so does not know the job. */
function findNothing(error: unknown): undefined {
	if (asStillpointError(error).code !== "job-unknown") throw error;
	return undefined;
}
