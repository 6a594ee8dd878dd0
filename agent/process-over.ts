import { readdirSync, readFileSync } from "node:fs";
import { type ProcessIdentity, parseProcessStat } from "../platform/linux/process-identity.ts";

/**
 * Whether no thread of the process can act any more. A main thread that has ended shows as a zombie while another
 * thread may still complete a FIFREEZE in the kernel, so every thread is looked at. Reads procfs only.
 */
export function isProcessOver({ pid, startTime }: ProcessIdentity): boolean {
	try {
		if (parseProcessStat(readFileSync(`/proc/${pid}/stat`, "latin1")).startTime !== startTime) return true;
		return readdirSync(`/proc/${pid}/task`).every((thread) => {
			const { state } = parseProcessStat(readFileSync(`/proc/${pid}/task/${thread}/stat`, "latin1"));
			return state === "Z" || state === "X";
		});
	} catch (error) {
		// ESRCH: it ended while its file was read.
		const code = (error as NodeJS.ErrnoException).code;
		return code === "ENOENT" || code === "ESRCH";
	}
}
