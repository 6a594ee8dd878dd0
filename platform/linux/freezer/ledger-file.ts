import { renameSync, rmSync, writeFileSync } from "node:fs";
import type { Ledger } from "../../../contracts/freezer-protocol.ts";

/**
 * Writes the ledger so that a reader sees the old one or the new one whole. Synchronous, because a FIFREEZE may only
 * begin when the ledger names it; the path must lie on tmpfs, where this takes microseconds and never waits for a disk.
 */
export function writeLedger(path: string, ledger: Ledger): void {
	const draft = `${path}.draft`;
	writeFileSync(draft, JSON.stringify(ledger), { mode: 0o600 });
	renameSync(draft, path);
}

/** Never throws: what it stands for is thawed, and a ledger that stays is looked at by the next start. */
export function removeLedger(path: string): void {
	for (const one of [path, `${path}.draft`]) {
		try {
			rmSync(one, { force: true });
		} catch {
			// The run folder is read-only, or no folder any more.
		}
	}
}
