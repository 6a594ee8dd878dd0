import { expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import type { JobPhase } from "../../contracts/hold-protocol.ts";
import { type Job, tellStuck, unlessDegraded } from "../../extensions/vm-snapshot-linux/job.ts";
import { JobPhaseWalk } from "../../extensions/vm-snapshot-linux/job-phase-walk.ts";

const late = new StillpointError("freeze-late", "not frozen in time");

function freezingJob(acceptLevel: string): { job: Job; told: JobPhase[] } {
	const told: JobPhase[] = [];
	const phases = new JobPhaseWalk((phase) => told.push(phase));
	for (const phase of ["planning", "preparing", "prepared", "scripts", "freezing"] as const) phases.advance(phase);
	const host = {
		ending: new AbortController().signal,
		request: { order: { jobId: "j", acceptLevel } },
		send: () => Promise.resolve(),
	};
	return { job: { host, phases, record: {} } as unknown as Job, told };
}

test("a freeze that failed and was taken back is gone on without, where the order accepts that", async () => {
	const { job } = freezingJob("crash");
	await expect(unlessDegraded(job, () => Promise.reject(late))).resolves.toBeUndefined();
	expect(job.record.degraded).toBe(late);
	await expect(unlessDegraded(freezingJob("file-system").job, () => Promise.reject(late))).rejects.toBe(late);
});

test("a job that was stuck on the way fails by what made it so, though the order accepts crash", async () => {
	const { job, told } = freezingJob("crash");
	const freezing = unlessDegraded(job, () => {
		tellStuck(job, ["/data"]);
		return Promise.reject(late);
	});
	await expect(freezing).rejects.toBe(late);
	expect(told.slice(-2)).toEqual(["undoing", "stuck"]);
});
