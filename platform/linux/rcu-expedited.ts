/**
 * `/sys/kernel/rcu_expedited`: one switch for the whole machine, which makes the waits inside FIFREEZE some 40 times
 * shorter. It is on for the instant of a freeze
 * only. A marker on tmpfs, written before the switch and removed after it, says that it is ours to put back: whoever
 * finds a marker whose process has ended does so. Found switched on without a marker, it is somebody else's and stays.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isSameProcessAlive, type ProcessIdentity } from "./process-identity.ts";

const switchPath = "/sys/kernel/rcu_expedited";

/** @param folder On tmpfs: the folder of the ledgers. */
function markerPath(folder: string): string {
	return join(folder, "rcu-expedited");
}

/**
 * Switches on. Returns what puts it back, or undefined when it was on before or can't be switched; never throws.
 * Synchronous: it is called in the instant before the first FIFREEZE.
 */
export function expedite(folder: string, self: ProcessIdentity): (() => void) | undefined {
	try {
		if (readSwitch() !== "0" && findOwner(folder) === undefined) return undefined;
		const draft = `${markerPath(folder)}.draft`;
		writeFileSync(draft, JSON.stringify(self), { mode: 0o600 });
		renameSync(draft, markerPath(folder));
		writeFileSync(switchPath, "1");
		return () => putBack(folder);
	} catch {
		return undefined;
	}
}

export function isExpedited(): boolean {
	try {
		return readSwitch() !== "0";
	} catch {
		return false;
	}
}

/** What a process that was killed left switched on. `in-use`: its process lives. Never throws. */
export function restoreExpedited(folder: string): "nothing" | "in-use" | "restored" | "failed" {
	try {
		const owner = findOwner(folder);
		if (owner === undefined) return "nothing";
		if (owner !== "unknown" && isSameProcessAlive(owner)) return "in-use";
		putBack(folder);
		return "restored";
	} catch {
		return "failed";
	}
}

function putBack(folder: string): void {
	writeFileSync(switchPath, "0");
	rmSync(markerPath(folder), { force: true });
}

function readSwitch(): string {
	return readFileSync(switchPath, "latin1").trim();
}

/** A marker that can't be read is a marker all the same: only we write there. */
function findOwner(folder: string): ProcessIdentity | "unknown" | undefined {
	let text: string;
	try {
		text = readFileSync(markerPath(folder), "utf8");
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === "ENOENT" ? undefined : "unknown";
	}
	try {
		const { pid, startTime } = JSON.parse(text);
		return typeof pid === "number" && typeof startTime === "string" ? { pid, startTime } : "unknown";
	} catch {
		return "unknown";
	}
}
