import type { ScriptReport } from "../contracts/report.ts";
import type { InstalledExtension } from "./extension-host/installed-extension.ts";
import { runRecover } from "./extension-host/run-recover.ts";
import type { Log } from "./log.ts";

/**
 * Lets an extension undo what its killed runs left, and says so in the log: scripts that made an application quiet are
 * undone, whoever died. Returns what the scripts of `jobId` did.
 * @throws what `runRecover` throws.
 */
export async function recoverExtension(
	extension: InstalledExtension,
	given: { runDir: string; log: Log; signal: AbortSignal; jobId?: string },
): Promise<readonly ScriptReport[]> {
	const answer = await runRecover(extension, given.runDir, given.signal);
	for (const fault of answer?.faults ?? []) given.log.error("something that was left cannot be undone", { fault });
	for (const { jobId, scripts } of answer?.jobs ?? []) {
		const told = scripts.map(({ name, phase, error }) => ({ name, phase, error: error?.code }));
		given.log.warn("undid what a killed job left", { jobId, scripts: told });
	}
	return answer?.jobs.find(({ jobId }) => jobId === given.jobId)?.scripts ?? [];
}
