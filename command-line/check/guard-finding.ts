import type { findGuard } from "../../agent/guard/guard-file.ts";
import type { Finding } from "../../contracts/check.ts";

/** @param guard who guards the run folder, if anybody does */
export function guardFinding(guard: ReturnType<typeof findGuard>): Finding {
	const check = "guard";
	if (guard?.stopped === false) return { check, status: "ok", what: `runs since ${guard.since}, pid ${guard.pid}` };
	const why =
		"If all of Stillpoint's processes are killed while disks are frozen, they stay frozen until the agent starts " +
		"again, or somebody runs stillpoint thaw.";
	if (guard === undefined) {
		const remedy = "Start one, in a service of its own: stillpoint guard run.";
		return { check, status: "warn", what: "no guard is running", why, remedy };
	}
	return {
		check,
		status: "warn",
		what: `the guard is stopped (pid ${guard.pid}), by SIGSTOP or a debugger`,
		why,
		remedy: `Let it go on: kill -CONT ${guard.pid}.`,
	};
}
