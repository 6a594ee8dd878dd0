import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { findProcessIdentity, isSameProcessAlive, type ProcessIdentity, parseProcessStat } from "./process-identity.ts";

const lookEveryMs = 20;
/** While they are killed: they may go on to start others. */
const chaseEveryMs = 2;
const enoughLooks = 4;

export type ProcessRow = ProcessIdentity & { readonly parent: number; readonly group: number };

/** All processes but this one, by pid. Who they are comes first: a pid that is used again later is no longer the same. */
export function readProcessTable(): Map<number, ProcessRow> {
	return new Map(
		listProcesses()
			.flatMap((pid) => findRow(pid) ?? [])
			.map((row) => [row.pid, row]),
	);
}

/** Those that are still who they were. */
export function findAgain(before: readonly ProcessIdentity[], table: ReadonlyMap<number, ProcessRow>): ProcessRow[] {
	return before.flatMap(({ pid, startTime }) => {
		const row = table.get(pid);
		return row?.startTime === startTime ? [row] : [];
	});
}

/** A child is one only as long as its parent is who it was: otherwise it may be that of a process that came after it. */
export function withDescendants(roots: readonly number[], table: ReadonlyMap<number, ProcessRow>): ProcessRow[] {
	const children = Map.groupBy(table.values(), ({ parent }) => parent);
	const all = new Set(roots);
	for (const pid of all) {
		const row = table.get(pid);
		if (row === undefined || findProcessIdentity(pid)?.startTime !== row.startTime) continue;
		for (const child of children.get(pid) ?? []) all.add(child.pid);
	}
	return [...all].flatMap((pid) => table.get(pid) ?? []);
}

/** @param folder of a process or thread; empty when it has ended. Waits for a process that a frozen file system holds. */
export function readEnvironment(folder: string): string[] {
	try {
		return readFileSync(`${folder}/environ`, "utf8").split("\0");
	} catch {
		return [];
	}
}

/**
 * Ends what `find` finds, again and again until that is nothing for a few looks: one that forks while it is looked for
 * is found by the next one, and one that just becomes another program shows no environment for an instant. First by SIGTERM, because one of them may hold what it must let go of, such as a frozen file system; by
 * SIGKILL when they take longer than `graceMs`. One that is stopped is continued, so that it can end as it likes.
 * @param find is given what it found before: what has lost its parent meanwhile may be known by nothing else any more
 * @param given.hurries SIGKILL as soon as they start others meanwhile
 * @param given.mayLook false while disks may be frozen: then it waits, for as long as that lasts
 * @returns what could not be ended within `limitMs` (a process that a disk holds)
 */
export async function endProcesses(
	find: (before: readonly ProcessIdentity[]) => readonly ProcessIdentity[],
	given: { graceMs?: number; limitMs?: number; hurries?: boolean; mayLook?: () => boolean } = {},
): Promise<readonly ProcessIdentity[]> {
	const { graceMs = 2_000, limitMs = 5_000, hurries = false, mayLook = () => true } = given;
	let waitedMs = 0;
	let quietLooks = 0;
	const asked = new Map<string, ProcessIdentity>();
	let patient = true;
	for (;;) {
		while (!mayLook()) await sleep(100);
		const left = find([...asked.values()]);
		quietLooks = left.length === 0 ? quietLooks + 1 : 0;
		if (quietLooks >= enoughLooks || waitedMs >= graceMs + limitMs) return left;
		const isNew = left.filter((one) => !asked.has(nameOf(one)));
		patient &&= waitedMs < graceMs && !(hurries && asked.size > 0 && isNew.length > 0);
		// What is started by one that is asked is how that one lets go.
		const told = !patient ? left : asked.size === 0 ? left : [];
		for (const one of told) if (isSameProcessAlive(one)) send(one.pid, patient);
		for (const one of isNew) asked.set(nameOf(one), one);
		const beganMs = performance.now();
		await sleep(patient || quietLooks > 0 ? lookEveryMs : chaseEveryMs);
		waitedMs += performance.now() - beganMs;
	}
}

/** Of all but this one. */
export function listProcesses(): number[] {
	return listNumbers("/proc").filter((pid) => pid !== process.pid);
}

/** The entries of a folder that are numbers. */
export function listNumbers(folder: string): number[] {
	try {
		return readdirSync(folder)
			.filter((name) => /^\d+$/.test(name))
			.map(Number);
	} catch {
		return [];
	}
}

function findRow(pid: number): ProcessRow | undefined {
	try {
		const { startTime, parent, group } = parseProcessStat(readFileSync(`/proc/${pid}/stat`, "latin1"));
		if (startTime === undefined || parent === undefined || group === undefined) return undefined;
		return { pid, startTime, parent, group };
	} catch {
		return undefined;
	}
}

function nameOf({ pid, startTime }: ProcessIdentity): string {
	return `${pid} ${startTime}`;
}

function send(pid: number, patient: boolean): void {
	try {
		process.kill(pid, patient ? "SIGTERM" : "SIGKILL");
		if (patient) process.kill(pid, "SIGCONT");
	} catch {
		// It ended by itself.
	}
}
