import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import { checkRootOwnedChain } from "../../../platform/linux/path-trust.ts";
import type { JobRecord } from "../job-record.ts";
import { Applications } from "./applications.ts";
import { readDropIns } from "./read-drop-ins.ts";
import { openUndoList } from "./undo-list.ts";

/**
 * Reads what is configured, when the order asks for level application: no other level is raised by a script.
 * Loads what starts processes only when there is something to start, and before anything is frozen.
 */
export async function prepareApplications(record: JobRecord): Promise<void> {
	const { order, scriptsFolder, runFolder } = record.request;
	if (order.level !== "application") return;
	const { scripts, bad } = await readDropIns(scriptsFolder, checkTrust);
	record.badDropIns.push(...bad);
	if (scripts.length === 0) return;
	await import("execa");
	const disks = (record.plan?.disks ?? []).filter(({ included }) => included).map(({ name }) => name);
	const job = { jobId: order.jobId, level: order.level, disks };
	record.applications = new Applications(scripts, job, checkTrust, openUndoList(runFolder, job));
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
