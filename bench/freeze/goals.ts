/** What is demanded of each case, and whether it is met. Pure. */
import type { FreezeCase } from "./cases.ts";
import type { Felt } from "./gaps.ts";

export type Goal = { readonly what: string; readonly isMet: boolean };

export type Measured = { readonly agent: Felt; readonly qemuGa: Felt };

/** @param others Cases measured before, by name; a goal that leans on one that was not measured is left out. */
export function judgeGoals(
	{ goalRatio, goalTimes }: Pick<FreezeCase, "goalRatio" | "goalTimes">,
	{ agent, qemuGa }: Measured,
	others: ReadonlyMap<string, Measured> = new Map(),
): Goal[] {
	const goals: Goal[] = [
		{
			what: goalRatio === 1 ? "at most qemu-ga's" : `at most 1/${Math.round(1 / goalRatio)} of qemu-ga's`,
			// Written so that no number at all is a goal missed.
			isMet: ratioOf(agent, qemuGa) <= goalRatio,
		},
		{ what: "job at most qemu-ga's", isMet: agent.jobStallMs <= qemuGa.jobStallMs },
	];
	const other = goalTimes === undefined ? undefined : others.get(goalTimes.caseName);
	if (goalTimes !== undefined && other !== undefined) {
		goals.push({
			what: `at most ${goalTimes.factor} times ${goalTimes.caseName}`,
			isMet: agent.frozenStallMs <= goalTimes.factor * other.agent.frozenStallMs,
		});
	}
	return goals;
}

export function ratioOf(agent: Pick<Felt, "frozenStallMs">, qemuGa: Pick<Felt, "frozenStallMs">): number {
	return agent.frozenStallMs / qemuGa.frozenStallMs;
}
