import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseMountInfo } from "../../platform/linux/mount-table.ts";
import {
	findProcessIdentity,
	isSameProcessAlive,
	type ProcessIdentity,
} from "../../platform/linux/process-identity.ts";
import { azureStateFolder } from "./handler-place.ts";

/** Stands in the environment of every process of a handler, with the path of its private view: unique on the machine. */
export const handlerMark = "STILLPOINT_HANDLER";
/** Names one run of one command. */
export const commandMark = "STILLPOINT_COMMAND";

export type WantedProcesses = {
	/** The handler's `stateView`. */
	readonly stateView: string;
	/** Only those with this line in their environment (`NAME=value`), and whoever shares their mount namespace. */
	readonly variable?: string | undefined;
	/** And those of this mount namespace, where it is the handler's. */
	readonly namespace?: string | undefined;
};

/**
 * The processes of a handler, whatever session or group they went to: those whose mount namespace shows the handler's
 * view, those that carry its mark in their environment, and all that descend from either. Reads procfs only.
 */
export function findHandlerProcesses({ stateView, variable, namespace: wanted }: WantedProcesses): ProcessIdentity[] {
	const shows = makeViewCheck(stateView);
	const mark = `${handlerMark}=${stateView}`;
	const own = readlinkSync("/proc/self/ns/mnt");
	const found = new Map<number, { namespace: string; named: boolean }>();
	for (const pid of listProcesses()) {
		const namespace = readNamespace(pid);
		if (namespace === undefined) continue;
		const isInside = namespace !== own && shows(pid, namespace);
		const environment = isInside || namespace === own ? readEnvironment(pid) : [];
		if (!isInside && !environment.includes(mark)) continue;
		found.set(pid, { namespace, named: variable === undefined || environment.includes(variable) });
	}
	const namespaces = new Set([...found.values()].filter(({ named }) => named).map(({ namespace }) => namespace));
	if (wanted !== undefined) namespaces.add(wanted);
	namespaces.delete(own);
	const roots = [...found].filter(([, one]) => one.named || namespaces.has(one.namespace)).map(([pid]) => pid);
	return [...withDescendants(roots)].flatMap((pid) => findProcessIdentity(pid) ?? []).filter(isSameProcessAlive);
}

/**
 * Ends them all, again and again until none is left: one that forks while it is looked for is found by the next look.
 * @returns what could not be ended within `limitMs` (a process that a disk holds)
 */
export async function endHandlerProcesses(wanted: WantedProcesses, limitMs = 5_000): Promise<ProcessIdentity[]> {
	const endMs = performance.now() + limitMs;
	for (;;) {
		const left = findHandlerProcesses(wanted);
		if (left.length === 0 || performance.now() > endMs) return left;
		for (const { pid } of left) kill(pid);
		await sleep(20);
	}
}

/** Whether any process on the machine has something mounted there, in whatever mount namespace. */
export function isMountedSomewhere(mountPoint: string): boolean {
	const seen = new Set<string>();
	return listProcesses().some((pid) => {
		const namespace = readNamespace(pid);
		if (namespace === undefined || seen.has(namespace)) return false;
		seen.add(namespace);
		return readMounts(pid).some((mount) => mount.mountPoint === mountPoint);
	});
}

/** By superblock and folder within it, as the kernel names them: no path of another namespace is walked. */
function makeViewCheck(stateView: string): (pid: number, namespace: string) => boolean {
	const covering = readMounts("self")
		.filter(({ mountPoint }) => mountPoint === "/" || stateView.startsWith(`${mountPoint}/`))
		.reduce((best, one) => (one.mountPoint.length >= best.mountPoint.length ? one : best));
	const below = relative(covering.mountPoint, stateView);
	const root = covering.root === "/" ? `/${below}` : `${covering.root}/${below}`;
	const known = new Map<string, boolean>();
	return (pid, namespace) => {
		const answer =
			known.get(namespace) ??
			readMounts(pid).some(
				(mount) =>
					mount.superblock === covering.superblock && mount.root === root && mount.mountPoint === azureStateFolder,
			);
		known.set(namespace, answer);
		return answer;
	};
}

function withDescendants(roots: readonly number[]): Set<number> {
	const all = new Set(roots);
	if (all.size === 0) return all;
	const children = Map.groupBy(
		listProcesses().map((pid) => ({ pid, parent: readParent(pid) })),
		({ parent }) => parent,
	);
	for (const pid of all) for (const child of children.get(pid) ?? []) all.add(child.pid);
	return all;
}

function listProcesses(): number[] {
	return readdirSync("/proc")
		.filter((name) => /^\d+$/.test(name))
		.map(Number)
		.filter((pid) => pid !== process.pid);
}

/** A process that ends while it is looked at, and a zombie, have none. */
function readNamespace(pid: number): string | undefined {
	try {
		return readlinkSync(`/proc/${pid}/ns/mnt`);
	} catch {
		return undefined;
	}
}

function readMounts(pid: number | "self") {
	try {
		return parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, "utf8"));
	} catch {
		return [];
	}
}

function readEnvironment(pid: number): string[] {
	try {
		return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
	} catch {
		return [];
	}
}

function readParent(pid: number): number | undefined {
	try {
		const text = readFileSync(`/proc/${pid}/stat`, "latin1");
		return Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[1]);
	} catch {
		return undefined;
	}
}

function kill(pid: number): void {
	try {
		process.kill(pid, "SIGKILL");
	} catch {
		// It ended by itself.
	}
}
