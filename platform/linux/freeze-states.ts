import type { FreezeResult } from "../../contracts/freezer-protocol.ts";

/** The same as `mayBeOurs` of the contract, for programs that start without a schema library; a test compares them. */
export function mayBeFrozenByUs(state: FreezeResult): boolean {
	return state === "freezing" || state === "frozen" || state === "thaw-failed";
}
