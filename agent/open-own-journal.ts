import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import type { MachineIdentity } from "../platform/linux/machine-identity.ts";
import { type Journal, openJournal } from "./journal.ts";
import { isOtherMachine, lastingIdentity, parseIdentity } from "./machine-change.ts";

/**
 * The journal of this machine. One that came here inside a copied or restored disk of another machine is put aside:
 * its jobs and reports are not ours to send.
 */
export function openOwnJournal(stateDir: string, machine: MachineIdentity): { journal: Journal; putAside?: string } {
	const path = join(stateDir, "journal.db");
	const now = lastingIdentity(machine);
	const journal = openJournal(path);
	const kept = parseIdentity(journal.readIdentity());
	if (kept !== undefined && isOtherMachine(kept, now)) {
		journal[Symbol.dispose]();
		const putAside = journalPutAsideName(stateDir);
		renameSync(path, putAside);
		return { journal: openMarked(path, now), putAside };
	}
	if (kept === undefined) journal.writeIdentity(JSON.stringify(now));
	return { journal };
}

function openMarked(path: string, now: object): Journal {
	const journal = openJournal(path);
	journal.writeIdentity(JSON.stringify(now));
	return journal;
}

/** A name that is free. */
export function journalPutAsideName(stateDir: string): string {
	const prefix = join(stateDir, "journal-of-another-machine");
	for (let number = 1; ; number += 1) if (!existsSync(`${prefix}-${number}.db`)) return `${prefix}-${number}.db`;
}
