import { expect, test } from "vitest";
import { makeSnapshotJobs } from "../../controller/snapshot-jobs.ts";
import type { StoredJob } from "../../controller/store.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";

/** The store's answers take time, and the job ends meanwhile. */
function recordDuring(state: "done" | "failed") {
	const ran: StoredJob = {
		job: { jobId: "job-1", agentId: "agent-1", state: "thawing", orderedAt: new Date().toISOString() },
		request: "{}",
		agentJobIds: ["job-1"],
	};
	const store = { kept: ran };
	const jobs = makeSnapshotJobs({
		store: {
			findJobOfAgent: async () => store.kept,
			findJob: async () => store.kept,
			async addReport() {
				store.kept = { ...ran, job: { ...ran.job, state, endedAt: new Date().toISOString() } };
				return true;
			},
			async saveJob(job: StoredJob) {
				store.kept = job;
			},
		},
		log: { warn: () => undefined },
		onChange: () => undefined,
	} as never);
	return { jobs, store };
}

test.each(["done", "failed"] as const)(
	"a report that is stored while its job ends does not undo the end: %s",
	async (state) => {
		const { jobs, store } = recordDuring(state);
		await jobs.recordReport(
			"agent-1",
			1,
			makeFakeReport({ jobId: "job-1", level: "crash", acceptLevel: "crash" }, "crash"),
		);
		expect(store.kept.job).toMatchObject({ state, endedAt: expect.any(String) });
	},
);
