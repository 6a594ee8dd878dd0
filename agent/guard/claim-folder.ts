import { type BigIntStats, lstatSync } from "node:fs";
import { join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import { findFileLock } from "../../platform/linux/file-lock.ts";
import type { ProcessIdentity } from "../../platform/linux/process-identity.ts";
import { preparePrivateFolder } from "../private-folder.ts";
import { removeGuardFile, writeGuardFile } from "./guard-file.ts";

export type FolderClaim = {
	/** Another folder may lie there by now: its lock is taken, too. @throws `already-running` */
	renew(): Promise<void>;
	release(): Promise<void>;
};

/**
 * One guard for a run folder: the lock of a file in it, which is gone with the process however it ends, and
 * `guard.json`, by which others see it. The folder is made when it is missing.
 * @throws `already-running`, `state-unusable`
 */
export async function claimFolder(runDir: string, self: ProcessIdentity): Promise<FolderClaim> {
	const since = new Date();
	let lock: AsyncDisposable | undefined;
	let claimed: string | undefined;

	async function claim(): Promise<void> {
		const now = identify(runDir);
		if (now === undefined || now === claimed) return;
		claimed = now;
		const before = lock;
		const path = join(runDir, "guard.lock");
		lock = await findFileLock(path);
		await before?.[Symbol.asyncDispose]();
		if (lock === undefined)
			throw new StillpointError("already-running", `another guard holds ${path}`, { details: { path } });
		writeGuardFile(runDir, self, since);
	}

	preparePrivateFolder(runDir);
	await claim();
	return {
		renew: claim,
		async release() {
			removeGuardFile(runDir, self);
			await lock?.[Symbol.asyncDispose]();
		},
	};
}

function identify(path: string): string | undefined {
	let stats: BigIntStats | undefined;
	try {
		stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
	} catch {
		return undefined;
	}
	return stats?.isDirectory() ? `${stats.dev}:${stats.ino}` : undefined;
}
