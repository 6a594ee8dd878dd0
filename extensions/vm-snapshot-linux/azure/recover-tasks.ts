/** What the end of a job process in the middle of its work left behind: file systems, and tasks without an end. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { StillpointError } from "../../../contracts/errors.ts";
import { type Report, reportSchema } from "../../../contracts/report.ts";
import { findFileLock } from "../../../platform/linux/file-lock.ts";
import type { LedgerThawResult } from "../../../platform/linux/rescue-thaw.ts";
import type { HandlerEnvironment } from "../../kit/handler-environment.ts";
import { azureCodeOf } from "./azure-codes.ts";
import { outcomeOf, type TaskOutcome } from "./azure-status.ts";
import { endTaskIn } from "./end-task.ts";
import { isEndTold, writeStatusFiles } from "./status-files.ts";
import { readTaskFacts } from "./task-facts.ts";
import { isRunning, type TaskStore } from "./task-store.ts";
import { undoLeftovers } from "./undo-leftovers.ts";
import { jobLockPath, makeRunFolder } from "./wait-for-machine.ts";

/**
 * Thaws by the ledgers and lets applications go, unless a job is at work: that one did so when it began. Ends each task whose process is gone,
 * and tells again what was not told.
 */
export async function recoverTasks(
	store: TaskStore,
	given: { readonly runFolder: string; readonly environment: HandlerEnvironment; readonly now: () => Date },
): Promise<void> {
	const left = await undoUnlessBusy(given.runFolder);
	for (const task of store.tasks) {
		if (task.state === "running" && !(await isRunning(task))) {
			const report = await findReport(given.runFolder, task.jobId);
			const facts = await readTaskFacts(task);
			await endTaskIn(store, { ...given, facts, outcome: outcomeAfterLoss(report, left), now: given.now() });
		}
		if (task.state !== "ended" || task.outcome === undefined) continue;
		for (const number of task.sequenceNumbers) {
			// A number that is used again belongs to the newer task.
			if (store.tasks.find(({ sequenceNumbers }) => sequenceNumbers.includes(number)) !== task) continue;
			if (await isEndTold(given.environment.statusFolder, number)) continue;
			await writeStatusFiles(given.environment.statusFolder, { sequenceNumbers: [number] }, task.outcome, given.now());
		}
	}
}

/** The report lies on tmpfs from before the status is told; without it the evidence is lost. */
function outcomeAfterLoss(report: Report | undefined, left: readonly LedgerThawResult[]): TaskOutcome {
	const frozen = left.map(({ mountPoint, ledger }) => mountPoint || ledger);
	if (frozen.length > 0) {
		const error = new StillpointError("stuck", `may still be frozen: ${frozen.join(", ")}; run: stillpoint thaw`);
		return { status: "error", code: azureCodeOf(error), message: `${error.code}: ${error.message}`, report };
	}
	if (report !== undefined) {
		const code = report.error === undefined ? undefined : azureCodeOf(report.error, report);
		return { ...outcomeOf(report, code), report };
	}
	const error = new StillpointError("interrupted", "the job ended before it could say how; everything was thawed");
	return { status: "error", code: azureCodeOf(error), message: `${error.code}: ${error.message}` };
}

async function undoUnlessBusy(runFolder: string): Promise<LedgerThawResult[]> {
	await makeRunFolder(runFolder);
	await using lock = await findFileLock(jobLockPath(runFolder));
	return lock === undefined ? [] : await undoLeftovers(runFolder);
}

async function findReport(runFolder: string, jobId: string): Promise<Report | undefined> {
	try {
		const text = await readFile(join(runFolder, "reports", `${jobId}.json`), "utf8");
		return reportSchema.parse(JSON.parse(text));
	} catch {
		return undefined;
	}
}
