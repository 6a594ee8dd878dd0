import type { ApplicationScripts, BadScripts } from "../application-scripts.ts";

/** What one kind of configuration says. */
export type FoundScripts = {
	readonly applications: readonly ApplicationScripts[];
	readonly bad: readonly BadScripts[];
	/** For people: what is configured and not used, and why. */
	readonly notes: readonly string[];
};

export const nothingFound: FoundScripts = { applications: [], bad: [], notes: [] };

/** By code unit, so that the order does not depend on the machine's language. */
export function byCodeUnit(a: string, b: string): number {
	return a < b ? -1 : a > b ? 1 : 0;
}
