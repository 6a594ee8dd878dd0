import { existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { type Ledger, mayBeOurs } from "../../contracts/freezer-protocol.ts";
import { findLedgerSync } from "../../platform/linux/find-ledger.ts";

type LedgerEntry = Ledger["fileSystems"][number];

/** What a ledger says at this moment. */
export type LedgerNow =
	/** It was removed: its freezer, or who came to the rescue, has thawed all. */
	| { readonly type: "over" }
	| { readonly type: "told"; readonly ledger: Ledger; readonly suspects: readonly LedgerEntry[] }
	/** It, or its folder, was damaged or taken away: all that it once named may be ours, except what was not. */
	| { readonly type: "untold"; readonly ledger: Ledger; readonly suspects: readonly LedgerEntry[] };

export type FollowedLedger = { readonly path: string; readonly ledger: Ledger; readNow(): LedgerNow };

/** Reads a ledger again whenever it was replaced. On tmpfs, where nothing of this waits for a disk. */
export function followLedger(path: string, first: Ledger): FollowedLedger {
	let ledger = first;
	let readable = true;
	let version: string | undefined;

	function refresh(): "there" | "absent" {
		const now = versionOf(path);
		if (now === undefined) return "absent";
		if (now === version) return "there";
		try {
			const read = findLedgerSync(path);
			if (read === undefined) return "absent";
			// Another job's, or one of a later freezer, is no news of this one.
			if (read.freezer.pid !== first.freezer.pid || read.freezer.startTime !== first.freezer.startTime) return "absent";
			ledger = read;
			readable = true;
		} catch {
			readable = false;
		}
		version = now;
		return "there";
	}

	return {
		path,
		get ledger() {
			return ledger;
		},
		readNow() {
			if (refresh() === "absent") {
				if (existsSync(dirname(path))) return { type: "over" };
			} else if (readable) {
				return { type: "told", ledger, suspects: ledger.fileSystems.filter(({ state }) => mayBeOurs(state)) };
			}
			const notOurs = ["foreign", "unsupported", "thawed", "not-frozen"];
			return { type: "untold", ledger, suspects: ledger.fileSystems.filter(({ state }) => !notOurs.includes(state)) };
		},
	};
}

/** Another one after each rename that replaces the file. */
function versionOf(path: string): string | undefined {
	const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
	return stats === undefined ? undefined : `${stats.ino}:${stats.mtimeNs}:${stats.size}`;
}
