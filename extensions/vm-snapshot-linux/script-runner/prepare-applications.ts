import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import { checkRootOwnedChain } from "../../../platform/linux/path-trust.ts";
import type { JobRecord } from "../job-record.ts";
import { Applications } from "./applications.ts";
import { findFreezeDisabled, readApplications } from "./read-applications.ts";
import { scriptJobOf } from "./script-job.ts";
import { openUndoList } from "./undo-list.ts";

/**
 * Reads what is configured, when the order asks for level application: no other level is raised by a script. That
 * nothing shall be frozen counts for every order that would freeze.
 */
export async function prepareApplications(record: JobRecord): Promise<void> {
	const { order, runFolder } = record.request;
	if (order.level === "crash") return;
	if (order.level !== "application") {
		record.freezeDisabledBy = await findFreezeDisabled(record.request.otherScripts, checkTrust);
		return;
	}
	const { applications, bad, freezeDisabledBy } = await readApplications(record.request, checkTrust);
	record.badScripts.push(...bad);
	record.freezeDisabledBy = freezeDisabledBy;
	if (applications.length === 0) return;
	const job = scriptJobOf(order, record.plan);
	// None may go on at a lower level when the order accepts none: the first failure ends the job, and the hold with it.
	const strict = applications.map((one) => ({ ...one, onFailure: "fail" as const }));
	const wanted = order.acceptLevel === "application" ? strict : applications;
	record.applications = new Applications(wanted, { job, checkTrust, runFolder }, openUndoList(runFolder, job));
}

/** Scripts run as root: nobody else may have a hand in them. */
export async function checkTrust(path: string): Promise<void> {
	try {
		await checkRootOwnedChain(path);
	} catch (thrown) {
		const error = asStillpointError(thrown);
		const code = error.code === "untrusted-path" ? "script-untrusted" : "script-failed";
		throw new StillpointError(code, error.message, { cause: error, details: { ...error.details } });
	}
}
