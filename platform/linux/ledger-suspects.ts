import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { mayBeOurs } from "../../contracts/freezer-protocol.ts";
import { findLedgerSync } from "./find-ledger.ts";
import type { HeldFolder } from "./target-folders.ts";

/**
 * Which of the folders of one job may be frozen by us, by its ledger on tmpfs, so that no read waits for a disk. No
 * ledger: none, the freezer removes it when it has thawed all. One that can't be read, or whose folder has vanished,
 * tells nothing: then all are.
 */
export function findSuspects(ledgerPath: string, folders: readonly HeldFolder[]): readonly HeldFolder[] {
	try {
		const ledger = findLedgerSync(ledgerPath);
		if (ledger === undefined) return existsSync(dirname(ledgerPath)) ? [] : folders;
		const ours = new Set(
			ledger.fileSystems.filter(({ state }) => mayBeOurs(state)).map(({ superblock }) => superblock),
		);
		return folders.filter(({ target }) => ours.has(target.superblock));
	} catch {
		return folders;
	}
}
