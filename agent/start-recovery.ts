/** What a start does about an earlier life that ended in the middle of a job. */
import { StillpointError } from "../contracts/errors.ts";
import { type LedgerThawResult, thawFromLedgers } from "../platform/linux/rescue-thaw.ts";
import type { JobRecords } from "./job-records.ts";
import { makeLostReport } from "./lost-report.ts";
import { findSnapshotTold, forgetSnapshotTold } from "./snapshot-told.ts";

/**
 * The first thing after the lock, before any folder on a disk is touched: thaws what the ledgers name.
 * @throws `stuck` when something of ours is still frozen: whatever comes next in a start could hang on it.
 * `ledger-invalid` when nothing tells whether it is, with the file to look at.
 */
export async function thawEarlierLife(runDir: string, signal: AbortSignal): Promise<LedgerThawResult[]> {
	const results = await thawFromLedgers(runDir, { signal });
	const left = results.filter(({ result }) => result === "thaw-failed");
	const unknown = left.filter(({ ledger }) => ledger !== undefined).map(({ detail }) => detail);
	const frozen = left.filter(({ ledger }) => ledger === undefined).map(({ mountPoint }) => mountPoint);
	if (frozen.length > 0) {
		const what = [`still frozen: ${frozen.join(", ")}`, ...unknown].join("; ");
		throw new StillpointError("stuck", what, { details: { results } });
	}
	if (unknown.length > 0) throw new StillpointError("ledger-invalid", unknown.join("; "), { details: { results } });
	return results;
}

/** Closes jobs that ended with the former life: their evidence went with it. */
export function closeUnfinishedJobs(records: JobRecords, runDir: string): string[] {
	const closed: string[] = [];
	for (const job of records.unfinished()) {
		records.end(
			job.jobId,
			makeLostReport({
				order: job.order,
				extension: { name: "unknown", version: "0" },
				startedAt: job.createdAt,
				durationMs: Date.now() - Date.parse(job.createdAt),
				error: new StillpointError("interrupted", "the agent ended during the job and was started again"),
				snapshotTold: findSnapshotTold(runDir, job.jobId),
			}),
		);
		forgetSnapshotTold(runDir, job.jobId);
		closed.push(job.jobId);
	}
	return closed;
}
