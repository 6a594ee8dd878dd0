import { lstat } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Of a path that does not exist: the symbolic link that leads to nothing, the path itself or a folder above it. Whoever
 * made the link meant something, so that nothing being there is no answer.
 */
export async function findDanglingLink(path: string): Promise<string | undefined> {
	for (let here = path; ; here = dirname(here)) {
		const found = await lstat(here).catch(() => undefined);
		if (found?.isSymbolicLink() === true) return here;
		if (found !== undefined || here === dirname(here)) return undefined;
	}
}
