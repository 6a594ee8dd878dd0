import { type LedgerThawResult, thawFromLedgers } from "../../../platform/linux/rescue-thaw.ts";
import { checkTrust } from "../script-runner/prepare-applications.ts";
import { recoverScripts } from "../script-runner/recover-scripts.ts";

/**
 * What a job that was killed left: its file systems are thawed, and then its applications let go. Returns what stays
 * frozen whatever is tried: scripts could hang on that, and are left for later. Only for who has the lock of the job.
 */
export async function undoLeftovers(runFolder: string): Promise<LedgerThawResult[]> {
	const results = await thawFromLedgers(runFolder);
	const left = results.filter(({ result }) => result === "thaw-failed");
	// What can't be read stays where it is, for somebody to look at.
	if (left.length === 0) await recoverScripts(runFolder, checkTrust, () => undefined);
	return left;
}
