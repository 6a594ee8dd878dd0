import { readdirSync, readFileSync } from "node:fs";

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

/**
 * Whether any thread of the process can still act. A main thread that was killed shows as a zombie while another one
 * of its threads completes a FIFREEZE in the kernel, so every thread is looked at. A zombie through and through holds
 * nothing in flight, so it counts as ended.
 */
export function isSameProcessAlive({ pid, startTime }: ProcessIdentity): boolean {
	try {
		if (parseProcessStat(readFileSync(`/proc/${pid}/stat`, "latin1")).startTime !== startTime) return false;
		return readdirSync(`/proc/${pid}/task`).some((thread) => isThreadAlive(pid, thread));
	} catch {
		return false;
	}
}

/**
 * How many threads besides the main one wait in the kernel where no signal ends them (state D). Undefined: it is gone,
 * or its main thread waits there itself or is stopped, so that it can't do anything.
 */
export function countThreadsInKernel({ pid, startTime }: ProcessIdentity): number | undefined {
	try {
		const main = parseProcessStat(readFileSync(`/proc/${pid}/stat`, "latin1"));
		if (main.startTime !== startTime || !["R", "S"].includes(main.state ?? "")) return undefined;
		return readdirSync(`/proc/${pid}/task`).filter((thread) => readThreadState(pid, thread) === "D").length;
	} catch {
		return undefined;
	}
}

/** `ending`: it was killed, and a thread of it is still in the kernel, which may be a FIFREEZE that completes. */
export function findProcessLife(identity: ProcessIdentity): "alive" | "ending" | "ended" {
	if (!isSameProcessAlive(identity)) return "ended";
	return isThreadAlive(identity.pid, String(identity.pid)) ? "alive" : "ending";
}

function isThreadAlive(pid: number, thread: string): boolean {
	const state = readThreadState(pid, thread);
	return state !== undefined && state !== "Z" && state !== "X";
}

function readThreadState(pid: number, thread: string): string | undefined {
	try {
		return parseProcessStat(readFileSync(`/proc/${pid}/task/${thread}/stat`, "latin1")).state;
	} catch {
		return undefined;
	}
}

/** The process group, undefined when there is no such process. */
export function findProcessGroup(pid: number): number | undefined {
	try {
		return parseProcessStat(readFileSync(`/proc/${pid}/stat`, "latin1")).group;
	} catch {
		return undefined;
	}
}

/** The program's name stands in parentheses and may itself hold spaces and parentheses. */
export function parseProcessStat(text: string): {
	state: string | undefined;
	parent: number | undefined;
	group: number | undefined;
	startTime: string | undefined;
} {
	const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
	const parent = fields[1] === undefined ? undefined : Number(fields[1]);
	const group = fields[2] === undefined ? undefined : Number(fields[2]);
	return { state: fields[0], parent, group, startTime: fields[19] };
}
