import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import { takeFileLock } from "../../../platform/linux/file-lock.ts";
import { findLedger } from "../../../platform/linux/find-ledger.ts";
import { isSameProcessAlive } from "../../../platform/linux/process-identity.ts";

const pollMs = 200;

/** Held by one job that another host agent asked for. */
export function jobLockPath(runFolder: string): string {
	return join(runFolder, "job.lock");
}

/**
 * Waits until no other snapshot is made on this machine: another task of ours, or a freezer of an agent beside. If one
 * of those starts after this, the kernel lets only one of both freeze, and the other leaves it alone (`foreign-freeze`).
 * @throws `order-expired` naming who was in the way, `state-unusable`, or the signal's reason
 */
export async function waitForMachine(given: {
	readonly runFolder: string;
	readonly otherRunFolders: readonly string[];
	readonly limitMs: number;
	readonly signal: AbortSignal;
}): Promise<AsyncDisposable> {
	const deadline = performance.now() + given.limitMs;
	await makeRunFolder(given.runFolder);
	await using owned = new AsyncDisposableStack();
	try {
		owned.use(await takeFileLock(jobLockPath(given.runFolder), given.limitMs, given.signal));
	} catch (thrown) {
		const error = asStillpointError(thrown);
		if (error.code !== "deadline-passed") throw error;
		throw new StillpointError("order-expired", `another snapshot ran on this machine for ${given.limitMs} ms`);
	}
	for (;;) {
		const busy = await findBusyFolder(given.otherRunFolders);
		if (busy === undefined) return owned.move();
		if (performance.now() >= deadline) {
			throw new StillpointError("order-expired", `an agent beside (${busy}) was busy for ${given.limitMs} ms`);
		}
		given.signal.throwIfAborted();
		await sleep(pollMs);
	}
}

export async function makeRunFolder(runFolder: string): Promise<void> {
	await mkdir(runFolder, { recursive: true, mode: 0o700 }).catch((cause: Error) => {
		throw new StillpointError("state-unusable", `${runFolder}: ${cause.message}`, { cause });
	});
}

async function findBusyFolder(runFolders: readonly string[]): Promise<string | undefined> {
	for (const runFolder of runFolders) {
		const folder = join(runFolder, "freezes");
		const names = await readdir(folder).catch(() => []);
		for (const name of names) {
			// What is no ledger names no freezer.
			const ledger = await findLedger(join(folder, name)).catch(() => undefined);
			if (ledger !== undefined && isSameProcessAlive(ledger.freezer)) return runFolder;
		}
	}
	return undefined;
}
