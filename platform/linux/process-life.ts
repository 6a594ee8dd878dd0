import { readFileSync } from "node:fs";
import { isSameProcessAlive, type ProcessIdentity, parseProcessStat } from "./process-identity.ts";

/** `ending`: it was killed, and a thread of it is still in the kernel, which may be a FIFREEZE that completes. */
export function findProcessLife(identity: ProcessIdentity): "alive" | "ending" | "ended" {
	if (!isSameProcessAlive(identity)) return "ended";
	try {
		// Of its main thread, which ends at once when the process is killed: it makes no call that can't be broken off.
		const { state } = parseProcessStat(readFileSync(`/proc/${identity.pid}/stat`, "latin1"));
		return state === "Z" || state === "X" ? "ending" : "alive";
	} catch {
		return "ended";
	}
}
