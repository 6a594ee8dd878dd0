import type { Finding } from "../../contracts/verification.ts";
import type { DatabaseWork, FoundDatabase } from "./databases/database-kind.ts";
import type { FileSystemInImages } from "./found-file-system.ts";
import { findingOf } from "./found-file-system.ts";

/** A guest can have any number of folders that look like a server's; each check of one takes seconds at least. */
const mostServers = 64;

/** One finding for each database, with its path in the guest's file system. What it says may be the guest's own words. */
export async function checkDatabases(
	fileSystem: FileSystemInImages,
	databases: readonly FoundDatabase[],
	shown: (path: Buffer) => string,
	work: DatabaseWork,
): Promise<Finding[]> {
	const findings: Finding[] = [];
	let servers = 0;
	for (const { kind, path } of databases) {
		if (kind.name !== "SQLite") servers += 1;
		const verdict = await kind.check(path, { ...work, startServers: work.startServers && servers <= mostServers });
		const detail = `${shown(path)}: ${verdict.detail}`.replaceAll(/\p{Cc}+/gu, " ");
		findings.push(findingOf(fileSystem, "database", { ...verdict, detail }));
	}
	return findings;
}
