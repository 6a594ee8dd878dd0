/** What may start when: a unit is a handler (`NAME`) or one instance of it (`NAME/INSTANCE`). Pure. */
import { StillpointError } from "../../contracts/errors.ts";

export type GraphUnit = {
	readonly id: string;
	readonly handler: string;
	/** Ids of units, or names of handlers, which stand for all of their units. */
	readonly dependsOn: readonly string[];
};

export type CheckedGraph = {
	/** Unit id to the ids of the units that it waits for. */
	readonly waitsFor: ReadonlyMap<string, readonly string[]>;
	/** Units that can never start. */
	readonly faults: ReadonlyMap<string, StillpointError>;
};

/** A cycle is a fault of the units on it, an unknown name of the unit that names it; all others are not concerned. */
export function checkGraph(units: readonly GraphUnit[]): CheckedGraph {
	const byName = Map.groupBy(units, ({ handler }) => handler);
	const known = new Set(units.map(({ id }) => id));
	const waitsFor = new Map<string, string[]>();
	const faults = new Map<string, StillpointError>();
	for (const { id, dependsOn } of units) {
		const wanted = new Set<string>();
		for (const name of dependsOn) {
			const ids = known.has(name) ? [name] : (byName.get(name) ?? []).map((one) => one.id);
			if (ids.length === 0)
				faults.set(
					id,
					new StillpointError("settings-invalid", `${id}: dependsOn: there is no enabled extension ${name}`),
				);
			for (const one of ids) wanted.add(one);
		}
		waitsFor.set(id, [...wanted]);
	}
	for (const { id } of units) {
		const cycle = findCycle(id, waitsFor);
		if (cycle !== undefined)
			faults.set(id, new StillpointError("settings-invalid", `${id}: dependsOn: a cycle: ${cycle.join(" -> ")}`));
	}
	return { waitsFor, faults };
}

/** The way from a unit back to itself. */
function findCycle(start: string, waitsFor: ReadonlyMap<string, readonly string[]>): string[] | undefined {
	const seen = new Set<string>();
	const walk = (at: string): string[] | undefined => {
		for (const next of waitsFor.get(at) ?? []) {
			if (next === start) return [at, start];
			if (seen.has(next)) continue;
			seen.add(next);
			const rest = walk(next);
			if (rest !== undefined) return [at, ...rest];
		}
		return undefined;
	};
	return walk(start);
}
