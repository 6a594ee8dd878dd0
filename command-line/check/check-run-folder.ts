import { join } from "node:path";

/** Beside the agent's own: what lies in there is a job of the agent's to it. `stillpoint thaw` looks into both. */
export function checkRunFolder(runDir: string): string {
	return join(runDir, "check");
}
