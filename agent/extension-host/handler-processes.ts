import { readFileSync, readlinkSync, realpathSync } from "node:fs";
import { relative } from "node:path";
import { parseMountInfo } from "../../platform/linux/mount-table.ts";
import { isSameProcessAlive, type ProcessIdentity } from "../../platform/linux/process-identity.ts";
import {
	endProcesses,
	findAgain,
	listNumbers,
	listProcesses,
	readEnvironment,
	readProcessTable,
	withDescendants,
} from "../../platform/linux/process-tree.ts";
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

/**
 * The processes of a handler, whatever session or group they went to: those whose mount namespace shows the handler's
 * view, those that carry its mark in their environment, those that were found before, and all that descend from any.
 * Reads procfs only; it can wait for a process that a frozen file system holds.
 */
export function findHandlerProcesses(
	wanted: WantedProcesses,
	before: readonly ProcessIdentity[] = [],
): ProcessIdentity[] {
	const { stateView, token, instance } = wanted;
	const findMounts = makeViewLook(stateView);
	const own = readlinkSync("/proc/self/ns/mnt");
	const table = readProcessTable();
	const roots = findAgain(before, table).map(({ pid }) => pid);
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
 * Ends them all, as `endProcesses`; by SIGKILL also when they start others meanwhile.
 * @param given.mayLook false while disks may be frozen: then it waits, for as long as that lasts
 * @returns what could not be ended within `limitMs` (a process that a disk holds)
 */
export async function endHandlerProcesses(
	wanted: WantedProcesses,
	given: { graceMs?: number; limitMs?: number; mayLook?: () => boolean } = {},
): Promise<readonly ProcessIdentity[]> {
	return endProcesses((before) => findHandlerProcesses(wanted, before), { ...given, hurries: true });
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
