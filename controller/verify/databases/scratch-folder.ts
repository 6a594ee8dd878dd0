import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";

/** A private folder that is gone when `work` is done. */
export async function withScratchFolder<T>(parent: string, work: (folder: string) => Promise<T>): Promise<T> {
	const folder = await mkdtemp(join(parent, "database-"));
	try {
		return await work(folder);
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
}
