/** The ways out when the freezer can't thaw: with directories held open since before the freeze, or by the ledgers. */
export { type LedgerThawResult, thawFromLedgers } from "./ledger-thaw.ts";
export {
	type HeldTargets,
	openTargets,
	type RescueResult,
	rescueThaw,
} from "./thaw-until-reaped.ts";
