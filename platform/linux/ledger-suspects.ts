import { existsSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { ledgerSchema, mayBeOurs } from "../../contracts/freezer-protocol.ts";
import type { HeldFolder } from "./target-folders.ts";

/**
 * Which of the folders of one job may be frozen by us, by its ledger on tmpfs, so that no read waits for a disk. No
 * ledger: none, the freezer removes it when it has thawed all. One that can't be read, or whose folder has vanished,
 * tells nothing: then all are.
 */
export function findSuspects(ledgerPath: string, folders: readonly HeldFolder[]): readonly HeldFolder[] {
	let text: string;
	try {
		text = readFileSync(ledgerPath, "utf8");
	} catch (error) {
		const removed = (error as NodeJS.ErrnoException).code === "ENOENT" && existsSync(dirname(ledgerPath));
		return removed ? [] : folders;
	}
	try {
		const { fileSystems } = ledgerSchema.parse(JSON.parse(text));
		const ours = new Set(fileSystems.filter(({ state }) => mayBeOurs(state)).map(({ superblock }) => superblock));
		return folders.filter(({ target }) => ours.has(target.superblock));
	} catch {
		return folders;
	}
}
