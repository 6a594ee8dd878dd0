import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import { checkRootOwnedChain } from "../../../platform/linux/path-trust.ts";
import type { JobRecord } from "../job-record.ts";
import { Applications } from "./applications.ts";
import { readApplications } from "./read-applications.ts";
import { openUndoList } from "./undo-list.ts";

/**
 * Reads what is configured, when the order asks for level application: no other level is raised by a script.
 * Loads what starts processes only when there is something to start, and before anything is frozen.
 */
export async function prepareApplications(record: JobRecord): Promise<void> {
	const { order, runFolder } = record.request;
	if (order.level !== "application") return;
	const { applications, bad } = await readApplications(record.request, checkTrust);
	record.badScripts.push(...bad);
	if (applications.length === 0) return;
	await import("execa");
	const job = {
		jobId: order.jobId,
		level: order.level,
		disks: (record.plan?.disks ?? []).filter(({ included }) => included).map(({ name }) => name),
		fileSystems: (record.plan?.targets ?? []).map(({ mountPoint, superblock }) => ({ mountPoint, superblock })),
	};
	record.applications = new Applications(applications, job, checkTrust, openUndoList(runFolder, job));
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
