import { mkdirSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { join } from "node:path";

/**
 * Keeps compiled code in the run folder, which is root's and lies on tmpfs, so that the next job starts in half the
 * time. To be called before the large part of the program is imported. Written when the process ends, long after the
 * thaw. The host's line is not checked yet: whatever is wrong with it is said later.
 */
export function useCompileCache(line: string): void {
	try {
		const { runFolder } = JSON.parse(line) as { runFolder?: unknown };
		if (typeof runFolder !== "string" || !runFolder.startsWith("/")) return;
		const folder = join(runFolder, "compile-cache");
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		enableCompileCache(folder);
	} catch {
		// It only saves time.
	}
}
