import type { ScriptPhase } from "../../../contracts/script-input.ts";
import {
	findProcessIdentity,
	isSameProcessAlive,
	type ProcessIdentity,
} from "../../../platform/linux/process-identity.ts";
import {
	endProcesses,
	findAgain,
	type ProcessRow,
	readEnvironment,
	readProcessTable,
	withDescendants,
} from "../../../platform/linux/process-tree.ts";
import { markVariable, phaseVariable } from "./script-step.ts";

/** From SIGTERM to SIGKILL. */
const killGraceMs = 500;
/** After SIGKILL: a process that a disk holds ends when that disk lets it. */
const killLimitMs = 5_000;

export type WantedScript = {
	readonly mark: string;
	readonly phase: ScriptPhase;
	/** The script itself, or what started it: nothing that was there before is looked at. */
	readonly since: ProcessIdentity;
	/** Leads the script's process group; undefined when that is not known. */
	readonly leader?: ProcessIdentity | undefined;
};

/**
 * The processes of one script, whatever session or group they went to: its process group, those that carry its mark in
 * their environment, and all that descend from either. What took a session of its own, emptied its environment and lost
 * its parent before it was looked for is not found. Reads procfs only; never while disks may be frozen.
 */
export function findScriptProcesses(wanted: WantedScript, before: readonly ProcessIdentity[] = []): ProcessIdentity[] {
	const table = readProcessTable();
	const marked = findMarked(wanted, table);
	const group = findGroup(wanted, table, marked, before);
	const roots = [...marked, ...group, ...findAgain(before, table)].map(({ pid }) => pid);
	return withDescendants(roots, table).filter(isSameProcessAlive);
}

/** SIGTERM, a grace, SIGKILL, until none is left. */
export async function endScriptProcesses(wanted: WantedScript): Promise<void> {
	await endProcesses((before) => findScriptProcesses(wanted, before), { graceMs: killGraceMs, limitMs: killLimitMs });
}

/** The same for what is left of its process group alone. @param known were in it when its leader ended */
export async function endScriptGroup(wanted: WantedScript, known: readonly ProcessIdentity[] = []): Promise<void> {
	const find = (before: readonly ProcessIdentity[]) => {
		const table = readProcessTable();
		return findGroup(wanted, table, findMarked(wanted, table), [...known, ...before]).filter(isSameProcessAlive);
	};
	await endProcesses(find, { graceMs: killGraceMs, limitMs: killLimitMs });
}

export function listGroup(leader: number): ProcessIdentity[] {
	return [...readProcessTable().values()].filter(({ group }) => group === leader);
}

function findMarked({ mark, phase, since }: WantedScript, table: ReadonlyMap<number, ProcessRow>): ProcessRow[] {
	return [...table.values()].filter(({ pid, startTime }) => {
		if (Number(startTime) < Number(since.startTime)) return false;
		const environment = readEnvironment(`/proc/${pid}`);
		return environment.includes(`${markVariable}=${mark}`) && environment.includes(`${phaseVariable}=${phase}`);
	});
}

/** A group's number is not given again as long as one of it lives; that one must be known to be of this script. */
function findGroup(
	{ leader }: WantedScript,
	table: ReadonlyMap<number, ProcessRow>,
	marked: readonly ProcessRow[],
	known: readonly ProcessIdentity[] = [],
): ProcessRow[] {
	if (leader === undefined) return [];
	const group = [...table.values()].filter((row) => row.group === leader.pid);
	const isOurs =
		findProcessIdentity(leader.pid)?.startTime === leader.startTime ||
		marked.some((row) => row.group === leader.pid) ||
		findAgain(known, table).some((row) => row.group === leader.pid);
	return isOurs ? group : [];
}
