/**
 * `/sys/kernel/rcu_expedited`: one switch for the whole machine, which makes the waits inside FIFREEZE some 40 times
 * shorter (docs/decisions/0011-the-shortest-window.md). It is on for the instant of a freeze only. Who switches it on
 * leaves a marker before, an empty file on tmpfs named for the process, and removes it after switching back: a marker
 * whose process has ended tells whoever finds it to do so. Found switched on without a marker, it is somebody else's
 * and stays. Holds at the same time don't count each other: the first that is done switches off, and the others go on
 * slower.
 */
import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findProcessLife, type ProcessIdentity } from "./process-identity.ts";

const kernelSwitch = "/sys/kernel/rcu_expedited";
const markerPrefix = "rcu-expedited";

/**
 * Switches on. Returns what puts it back, once however often it is called, or undefined when it was on before or can't
 * be switched. Neither ever throws. Synchronous: it is called in the instant before the first FIFREEZE.
 * @param folder On tmpfs: the folder of the ledgers.
 */
export function expedite(folder: string, self: ProcessIdentity, switchPath = kernelSwitch): (() => void) | undefined {
	const marker = join(folder, `${markerPrefix}.${self.pid}.${self.startTime}`);
	try {
		if (isSwitchedOn(switchPath) && findMarkers(folder).length === 0) return undefined;
		closeSync(openSync(marker, "w", 0o600));
	} catch {
		return undefined;
	}
	try {
		writeFileSync(switchPath, "1");
	} catch {
		removeQuietly(marker);
		return undefined;
	}
	let isOurs = true;
	return () => {
		if (!isOurs) return;
		isOurs = false;
		try {
			putBack([marker], switchPath);
		} catch {
			// The marker stays for whoever restores.
		}
	};
}

export function isExpedited(switchPath = kernelSwitch): boolean {
	try {
		return isSwitchedOn(switchPath);
	} catch {
		return false;
	}
}

/**
 * What a process that was killed left switched on, also while the kernel still holds a FIFREEZE of it back. `in-use`: a
 * process that lives puts it back itself. `failed`: the markers stay. Never throws.
 */
export function restoreExpedited(
	folder: string,
	switchPath = kernelSwitch,
): "nothing" | "in-use" | "restored" | "failed" {
	try {
		const markers = findMarkers(folder);
		if (markers.length === 0) return "nothing";
		if (markers.some(({ owner }) => owner !== undefined && findProcessLife(owner) === "alive")) return "in-use";
		putBack(
			markers.map(({ path }) => path),
			switchPath,
		);
		return "restored";
	} catch {
		return "failed";
	}
}

/** The switch first: who is killed in between leaves a marker too many, never a switch without one. */
function putBack(markers: readonly string[], switchPath: string): void {
	writeFileSync(switchPath, "0");
	for (const marker of markers) rmSync(marker, { force: true });
}

function removeQuietly(path: string): void {
	try {
		rmSync(path, { force: true });
	} catch {
		// A marker too many: it is restored from, which does no harm.
	}
}

/** @throws when it can't be read. A kernel may tell of other numbers than 0 and 1: all but 0 are on. */
function isSwitchedOn(switchPath: string): boolean {
	return readFileSync(switchPath, "latin1").trim() !== "0";
}

/** One whose name tells no process is a marker all the same: only we write there. */
function findMarkers(folder: string): { path: string; owner: ProcessIdentity | undefined }[] {
	const names = readNames(folder).filter((name) => name.startsWith(markerPrefix));
	return names.map((name) => {
		const [, pid, startTime] = /^rcu-expedited\.(\d+)\.(\d+)$/.exec(name) ?? [];
		const owner = pid === undefined || startTime === undefined ? undefined : { pid: Number(pid), startTime };
		return { path: join(folder, name), owner };
	});
}

function readNames(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
		throw error;
	}
}
