import { type Ledger, ledgerSchema, maxLedgerBytes } from "../../contracts/freezer-protocol.ts";
import { findSmallJson, findSmallJsonSync, type SmallJson } from "../read-small-json.ts";

/** It says what is killed and thawed: nobody but its writer may have made it. */
const ledgerFile: SmallJson<Ledger> = {
	code: "ledger-invalid",
	limitBytes: maxLedgerBytes,
	refuseLinks: true,
	ownOnly: true,
	schema: ledgerSchema,
};

/** @throws `ledger-invalid` for whatever is no ledger of ours */
export function findLedger(path: string): Promise<Ledger | undefined> {
	return findSmallJson(path, ledgerFile);
}

/** On tmpfs, where a read never waits for a disk. @throws `ledger-invalid` */
export function findLedgerSync(path: string): Ledger | undefined {
	return findSmallJsonSync(path, ledgerFile);
}
