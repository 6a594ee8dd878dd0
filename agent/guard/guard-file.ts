/** `<run-dir>/guard.json`: who guards this folder. On tmpfs; it is stale as soon as its process has ended. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type GuardRecord, guardRecordSchema } from "../../contracts/guard.ts";
import {
	findProcessIdentity,
	isSameProcessAlive,
	type ProcessIdentity,
	parseProcessStat,
} from "../../platform/linux/process-identity.ts";
import { findSmallJsonSync } from "../../platform/read-small-json.ts";

export function guardFilePath(runDir: string): string {
	return join(runDir, "guard.json");
}

export function writeGuardFile(runDir: string, self: ProcessIdentity, since: Date): void {
	const path = guardFilePath(runDir);
	const record: GuardRecord = { schemaVersion: 1, ...self, since: since.toISOString() };
	writeFileSync(`${path}.draft`, JSON.stringify(record), { mode: 0o600 });
	renameSync(`${path}.draft`, path);
}

/** Only its own: another guard may have come after it. */
export function removeGuardFile(runDir: string, self: ProcessIdentity): void {
	try {
		if (JSON.parse(readFileSync(guardFilePath(runDir), "utf8")).pid !== self.pid) return;
		rmSync(guardFilePath(runDir), { force: true });
	} catch {
		// It is gone, or no file of ours: whoever reads it sees that its process has ended.
	}
}

/** The guard of this folder. `stopped`: by SIGSTOP or a debugger, so that it guards nothing until it goes on. */
export function findGuard(runDir: string): { pid: number; since: string; stopped: boolean } | undefined {
	let record: GuardRecord | undefined;
	try {
		record = findSmallJsonSync(guardFilePath(runDir), {
			code: "state-unusable",
			limitBytes: 4_096,
			refuseLinks: true,
			ownOnly: true,
			schema: guardRecordSchema,
		});
	} catch {
		return undefined;
	}
	if (record === undefined || !isSameProcessAlive(record)) return undefined;
	const { pid, since } = record;
	return { pid, since, stopped: isStopped(pid) };
}

function isStopped(pid: number): boolean {
	try {
		return ["T", "t"].includes(parseProcessStat(readFileSync(`/proc/${pid}/stat`, "latin1")).state ?? "");
	} catch {
		return findProcessIdentity(pid) !== undefined;
	}
}
