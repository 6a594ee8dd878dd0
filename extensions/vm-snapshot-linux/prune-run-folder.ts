import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

/** What is kept of past jobs on tmpfs, which is memory. */
const keptJobs = 32;

/** Removes the oldest window logs and reports. Never rejects: it is only tidying up. */
export async function pruneRunFolder(runFolder: string): Promise<void> {
	await Promise.allSettled([prune(runFolder, /^window-.+\.jsonl$/), prune(join(runFolder, "reports"), /\.json$/)]);
}

async function prune(folder: string, pattern: RegExp): Promise<void> {
	const names = (await readdir(folder)).filter((name) => pattern.test(name));
	if (names.length <= keptJobs) return;
	const dated = await Promise.all(names.map(async (name) => ({ name, ms: (await stat(join(folder, name))).mtimeMs })));
	const old = dated.sort((a, b) => b.ms - a.ms).slice(keptJobs);
	await Promise.all(old.map(({ name }) => rm(join(folder, name), { force: true })));
}
