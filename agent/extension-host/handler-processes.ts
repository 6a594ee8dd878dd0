import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseMountInfo } from "../../platform/linux/mount-table.ts";
import {
	findProcessIdentity,
	isSameProcessAlive,
	type ProcessIdentity,
	parseProcessStat,
} from "../../platform/linux/process-identity.ts";
import { azureStateFolder } from "./handler-place.ts";

/** Stands in the environment of every process of a handler, with the path of its private view: unique on the machine. */
export const handlerMark = "STILLPOINT_HANDLER";
/** Names one run of one command. */
export const commandMark = "STILLPOINT_COMMAND";
/** Azure's variable of a multi-config handler's instance. */
export const instanceMark = "ConfigExtensionName";

/**
 * The source of the mount that lies over the agent's state in a handler's namespace. A namespace that is made from that
 * one has it, too: so what hides its environment and its parent still tells which run it comes from.
 */
export function mountLabel(token: string, instance: string | undefined): string {
	return `stillpoint:${token}:${instance ?? ""}`;
}

export type WantedProcesses = {
	/** The handler's `stateView`. */
	readonly stateView: string;
	/** Only those of this run of a command. */
	readonly token?: string | undefined;
	/** Only those of commands of this instance. */
	readonly instance?: string | undefined;
};

type TableRow = ProcessIdentity & { readonly parent: number };

/**
 * The processes of a handler, whatever session or group they went to: those whose mount namespace shows the handler's
 * view, those that carry its mark in their environment, and all that descend from either. Reads procfs only; it can
 * wait for a process that a frozen file system holds.
 */
export function findHandlerProcesses(wanted: WantedProcesses): ProcessIdentity[] {
	const { stateView, token, instance } = wanted;
	const findMounts = makeViewLook(stateView);
	const own = readlinkSync("/proc/self/ns/mnt");
	// Who it is comes first: a pid that is used again meanwhile is then no longer the same.
	const table = readTable();
	const roots: number[] = [];
	for (const { pid } of table.values()) {
		const folder = findLivingFolder(pid);
		if (folder === undefined) continue;
		const mounts = folder.namespace === own ? undefined : findMounts(folder);
		if (mounts === undefined && folder.namespace !== own) continue;
		const environment = readEnvironment(folder.path);
		if (mounts === undefined && !environment.includes(`${handlerMark}=${stateView}`)) continue;
		const [, run, of] = mounts?.find((source) => source.startsWith("stillpoint:"))?.split(":") ?? [];
		const isOfRun = token === undefined || run === token || environment.includes(`${commandMark}=${token}`);
		const isOfInstance = !instance || of === instance || environment.includes(`${instanceMark}=${instance}`);
		if (isOfRun && isOfInstance) roots.push(pid);
	}
	return withDescendants(roots, table).filter(isSameProcessAlive);
}

/**
 * Ends them all, again and again until none is left: one that forks while it is looked for is found by the next look.
 * First by SIGTERM, because one of them may hold what it must let go of, such as a frozen file system; by SIGKILL when
 * they take longer than `graceMs`, or start others meanwhile.
 * @param given.mayLook false while disks may be frozen: then it waits, for as long as that lasts
 * @returns what could not be ended within `limitMs` (a process that a disk holds)
 */
export async function endHandlerProcesses(
	wanted: WantedProcesses,
	given: { graceMs?: number; limitMs?: number; mayLook?: () => boolean } = {},
): Promise<ProcessIdentity[]> {
	const { graceMs = 2_000, limitMs = 5_000, mayLook = () => true } = given;
	let waitedMs = 0;
	let asked: Set<string> | undefined;
	let patient = true;
	for (;;) {
		while (!mayLook()) await sleep(100);
		const left = findHandlerProcesses(wanted);
		if (left.length === 0 || waitedMs >= graceMs + limitMs) return left;
		const first = asked === undefined;
		asked ??= new Set(left.map(nameOf));
		patient &&= waitedMs < graceMs && left.every((one) => asked?.has(nameOf(one)));
		const signal = patient ? "SIGTERM" : "SIGKILL";
		if (first || !patient) for (const one of left) if (isSameProcessAlive(one)) send(one.pid, signal);
		const beganMs = performance.now();
		await sleep(20);
		waitedMs += performance.now() - beganMs;
	}
}

function nameOf({ pid, startTime }: ProcessIdentity): string {
	return `${pid} ${startTime}`;
}

/** Whether any process on the machine has something mounted there, in whatever mount namespace. */
export function isMountedSomewhere(mountPoint: string): boolean {
	const seen = new Set<string>();
	return listProcesses().some((pid) => {
		const folder = findLivingFolder(pid);
		if (folder === undefined || seen.has(folder.namespace)) return false;
		seen.add(folder.namespace);
		return readMounts(folder.path).some((mount) => mount.mountPoint === mountPoint);
	});
}

/**
 * The sources of all mounts of a process that sees the handler's view at its place; undefined for every other one. By
 * superblock and folder within it, as the kernel names them: no path of another namespace is walked.
 */
function makeViewLook(stateView: string): (folder: LivingFolder) => readonly string[] | undefined {
	const covering = readMounts("/proc/self")
		.filter(({ mountPoint }) => mountPoint === "/" || stateView.startsWith(`${mountPoint}/`))
		.reduce((best, one) => (one.mountPoint.length >= best.mountPoint.length ? one : best));
	const below = relative(covering.mountPoint, stateView);
	const root = covering.root === "/" ? `/${below}` : `${covering.root}/${below}`;
	// Where the host has a link there, the mount lies where it leads to.
	const places = new Set([azureStateFolder, findRealPath(azureStateFolder)]);
	const known = new Map<string, readonly string[] | undefined>();
	return ({ path, namespace }) => {
		// One that changed its root sees only the mounts below that.
		const key = `${namespace} ${readLink(`${path}/root`)}`;
		if (known.has(key)) return known.get(key);
		const mounts = readMounts(path);
		const isInside = mounts.some(
			(mount) => mount.superblock === covering.superblock && mount.root === root && places.has(mount.mountPoint),
		);
		const answer = isInside ? mounts.map(({ source }) => source) : undefined;
		known.set(key, answer);
		return answer;
	};
}

/** A child is one only as long as its parent is who it was: otherwise it may be that of a process that came after it. */
function withDescendants(roots: readonly number[], table: ReadonlyMap<number, TableRow>): TableRow[] {
	const children = Map.groupBy(table.values(), ({ parent }) => parent);
	const all = new Set(roots);
	for (const pid of all) {
		const row = table.get(pid);
		if (row === undefined || findProcessIdentity(pid)?.startTime !== row.startTime) continue;
		for (const child of children.get(pid) ?? []) all.add(child.pid);
	}
	return [...all].flatMap((pid) => table.get(pid) ?? []);
}

function readTable(): Map<number, TableRow> {
	return new Map(
		listProcesses()
			.flatMap((pid) => findRow(pid) ?? [])
			.map((row) => [row.pid, row]),
	);
}

function findRow(pid: number): TableRow | undefined {
	try {
		const text = readFileSync(`/proc/${pid}/stat`, "latin1");
		const { startTime } = parseProcessStat(text);
		const parent = Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[1]);
		return startTime === undefined ? undefined : { pid, startTime, parent };
	} catch {
		return undefined;
	}
}

type LivingFolder = { readonly path: string; readonly namespace: string };

/**
 * Of the process, or of a thread that goes on after the first one has ended. Undefined for a process that has ended.
 */
function findLivingFolder(pid: number): LivingFolder | undefined {
	const path = `/proc/${pid}`;
	const namespace = readLink(`${path}/ns/mnt`);
	if (namespace !== undefined) return { path, namespace };
	for (const thread of listNumbers(`${path}/task`)) {
		const one = `${path}/task/${thread}`;
		const found = readLink(`${one}/ns/mnt`);
		if (found !== undefined) return { path: one, namespace: found };
	}
	return undefined;
}

function listProcesses(): number[] {
	return listNumbers("/proc").filter((pid) => pid !== process.pid);
}

function listNumbers(folder: string): number[] {
	try {
		return readdirSync(folder)
			.filter((name) => /^\d+$/.test(name))
			.map(Number);
	} catch {
		return [];
	}
}

function readLink(path: string): string | undefined {
	try {
		return readlinkSync(path);
	} catch {
		return undefined;
	}
}

function findRealPath(path: string): string {
	try {
		return realpathSync(path);
	} catch {
		return path;
	}
}

function readMounts(folder: string) {
	try {
		return parseMountInfo(readFileSync(`${folder}/mountinfo`, "utf8"));
	} catch {
		return [];
	}
}

function readEnvironment(folder: string): string[] {
	try {
		return readFileSync(`${folder}/environ`, "utf8").split("\0");
	} catch {
		return [];
	}
}

function send(pid: number, signal: NodeJS.Signals): void {
	try {
		process.kill(pid, signal);
	} catch {
		// It ended by itself.
	}
}
