import { mkdir } from "node:fs/promises";
import { StillpointError } from "../../../contracts/errors.ts";
import type { SnapshotRequest } from "../../../contracts/extension.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import type { ScriptJob } from "../../../contracts/script-input.ts";
import { loadFreezeCalls } from "../../../platform/linux/freeze-calls.ts";
import { planJob } from "../plan-job.ts";
import type { ApplicationScripts, BadScripts } from "./application-scripts.ts";
import { dryRun } from "./dry-run.ts";
import { checkTrust } from "./prepare-applications.ts";
import { readApplications } from "./read-applications.ts";
import { scriptJobOf } from "./script-job.ts";

export type ApplicationCheck = {
	readonly application: ApplicationScripts;
	/** One for each step. Without `error`: no fault was found with it. */
	readonly reports: readonly ScriptReport[];
};

export type CheckedApplications = { readonly checks: readonly ApplicationCheck[]; readonly bad: readonly BadScripts[] };

type CheckRequest = Pick<
	SnapshotRequest,
	"scriptsFolder" | "otherScripts" | "fileSystems" | "tempDisks" | "hostFolders" | "runFolder"
>;

/**
 * Looks at every script that a job over all disks would run, and tries those that know `--dry-run`. Freezes nothing.
 * @param name only this one
 * @throws `not-found` when nothing is called so, and what planning throws
 */
export async function checkApplications(
	request: CheckRequest,
	{ name, signal }: { name?: string | undefined; signal: AbortSignal },
): Promise<CheckedApplications> {
	const found = await readApplications(request, checkTrust);
	const isWanted = (one: { readonly name: string }) => name === undefined || one.name === name;
	const applications = found.applications.filter(isWanted);
	const bad = found.bad.filter(isWanted);
	if (name !== undefined && applications.length + bad.length === 0) {
		throw new StillpointError("not-found", `no scripts are called ${name}; see: stillpoint scripts list`);
	}
	const checks: ApplicationCheck[] = [];
	if (applications.length === 0) return { checks, bad };
	const job = await planScriptJob(request, signal);
	await mkdir(request.runFolder, { recursive: true, mode: 0o700 });
	for (const application of applications) {
		signal.throwIfAborted();
		checks.push({ application, reports: await dryRun(application, job, { runFolder: request.runFolder, signal }) });
	}
	return { checks, bad };
}

/** The same file systems as in a job, so that data that lies elsewhere is found. */
async function planScriptJob(request: CheckRequest, signal: AbortSignal): Promise<ScriptJob> {
	// Level crash: where the run folder lies is of no account when nothing is frozen.
	const order = { level: "crash", disks: "all" } as const;
	const plan = await planJob({ ...request, order }, await loadFreezeCalls(), signal);
	return scriptJobOf({ jobId: "scripts-check", level: "application" }, plan);
}
