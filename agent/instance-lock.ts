import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StillpointError } from "../contracts/errors.ts";
import { closeToOthers } from "./private-folder.ts";
import { asSqliteError } from "./sqlite-error.ts";

/**
 * One agent for a run folder. An exclusive transaction on a SQLite file is a kernel lock (fcntl) of this process, so
 * it is gone when the process is, however it ends. Nothing is written to the file.
 * @throws `already-running`
 */
export function takeInstanceLock(runDir: string): Disposable {
	const path = join(runDir, "agent.lock");
	let database: DatabaseSync | undefined;
	try {
		database = new DatabaseSync(path, { timeout: 0 });
		closeToOthers(path);
		database.exec("BEGIN EXCLUSIVE");
	} catch (cause) {
		database?.close();
		const error = asSqliteError(cause, path);
		if (error.code === "journal-corrupt")
			throw new StillpointError("state-unusable", `${path} is no lock file of ours`, { cause });
		if (error.code === "already-running")
			throw new StillpointError("already-running", `another agent holds ${path}`, { cause, details: { path } });
		throw error;
	}
	const held = database;
	return { [Symbol.dispose]: () => held.close() };
}
