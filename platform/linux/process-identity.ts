import { readFileSync } from "node:fs";

/** A pid is used again by other processes; together with the start time it names one process of this boot for ever. */
export type ProcessIdentity = {
	readonly pid: number;
	/** Field 22 of /proc/PID/stat: clock ticks since boot. */
	readonly startTime: string;
};

/** Undefined: there is no such process. A zombie counts as a process until it is reaped. */
export function findProcessIdentity(pid: number): ProcessIdentity | undefined {
	let text: string;
	try {
		text = readFileSync(`/proc/${pid}/stat`, "latin1");
	} catch {
		return undefined;
	}
	const startTime = parseProcessStat(text).startTime;
	return startTime === undefined ? undefined : { pid, startTime };
}

/** Whether the process is there; a zombie holds nothing frozen in flight any more, so it counts as ended. */
export function isSameProcessAlive(identity: ProcessIdentity): boolean {
	let text: string;
	try {
		text = readFileSync(`/proc/${identity.pid}/stat`, "latin1");
	} catch {
		return false;
	}
	const { state, startTime } = parseProcessStat(text);
	return startTime === identity.startTime && state !== "Z" && state !== "X";
}

/** The program's name stands in parentheses and may itself hold spaces and parentheses. */
export function parseProcessStat(text: string): { state: string | undefined; startTime: string | undefined } {
	const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
	return { state: fields[0], startTime: fields[19] };
}
