/** Findings about the plan's file systems: what is frozen now, and what a try of freezing them showed. Pure. */
import type { Check, Finding } from "../../contracts/check.ts";
import { StillpointError } from "../../contracts/errors.ts";
import type { FreezeResult } from "../../contracts/freezer-protocol.ts";
import type { AgentStatus } from "../../contracts/local-calls.ts";
import type { Report } from "../../contracts/report.ts";
import type { JobPlan } from "../../extensions/vm-snapshot-linux/plan-job.ts";

export function frozenFindings(frozen: Check["frozen"]): Finding[] {
	if (frozen.length === 0) return [{ check: "frozen", status: "ok", what: "nothing is frozen now" }];
	return frozen.map(({ mountPoint, by, jobId, since }) =>
		by === "stillpoint"
			? {
					check: "frozen",
					status: "fail" as const,
					what: `${mountPoint} is held by job ${jobId} since ${since}`,
					remedy: "If no job runs (stillpoint status): stillpoint thaw.",
				}
			: {
					check: "frozen",
					status: "fail" as const,
					what: `${mountPoint} is frozen, and not by us`,
					why: "Every writer on it waits.",
					remedy: "Find the other program that freezes (fsfreeze, another backup agent) and let it thaw.",
				},
	);
}

export function unprobedFindings(
	{ targets }: Pick<JobPlan, "targets">,
	states: ReadonlyMap<string, string>,
): Finding[] {
	const silent = targets.filter(({ superblock }) => states.get(superblock) === "unknown");
	if (silent.length === 0) return [];
	const where = silent
		.map(({ mountPoint }) => mountPoint)
		.sort()
		.join(", ");
	return [
		{
			check: "frozen",
			status: "unknown",
			what: `${where}: whether it is frozen could not be learnt`,
			why: "It did not answer in time, or the probe does not fit its mount options.",
			remedy: "See whether a write to it returns; look into the kernel's log for a disk that hangs.",
		},
	];
}

/** @throws `job-running`, `foreign-freeze` */
export function refuseToFreeze(status: AgentStatus | undefined, frozen: Check["frozen"]): void {
	if (status?.job !== undefined)
		throw new StillpointError("job-running", `--try-freeze waits for no job: ${status.job.jobId} runs`);
	if (frozen.length > 0)
		throw new StillpointError(
			"foreign-freeze",
			`--try-freeze: ${frozen.map(({ mountPoint }) => mountPoint).join(", ")} is frozen already`,
		);
}

/** What a person reads of one that was never frozen. */
export function freezeResultText(result: FreezeResult): string {
	return result === "pending" ? "not frozen" : result;
}

export function triedFinding({ error, window, fileSystems }: Report): Finding {
	const failed = fileSystems.filter(({ result }) => result !== "thawed");
	const times =
		window === undefined ? "" : `frozen in ${window.freezeMs.toFixed(1)} ms, thawed in ${window.thawMs.toFixed(1)} ms`;
	if (error === undefined && failed.length === 0)
		return { check: "try-freeze", status: "ok", what: `${fileSystems.length} file systems: ${times}` };
	const told = failed.filter(({ result, error: why }) => why !== undefined || result !== "pending");
	const named = (told.length > 0 ? told : failed)
		.map(({ mountPoint, result, error: why }) => `${mountPoint}: ${why ?? freezeResultText(result)}`)
		.join("; ");
	const code = error?.code ?? "freeze-failed";
	return {
		check: code === "stuck" ? "stuck" : "try-freeze",
		status: "fail",
		what: `not everything could be frozen: ${error === undefined ? named : `${error.code}: ${error.message}`}`,
		...(error === undefined || named === "" ? {} : { why: named }),
		remedy: `stillpoint explain ${code}`,
	};
}
