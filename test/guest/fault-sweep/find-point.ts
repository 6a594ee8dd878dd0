/** Where in its hold a job really is: by the system calls that its freezer is in, its ledger, and the agent's word. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { JobPhase } from "../../../contracts/hold-protocol.ts";
import { findLedgerSync } from "../../../platform/linux/find-ledger.ts";
import type { Point } from "./sweep-cells.ts";

const freezeCall = "0xc0045877";
const thawCall = "0xc0045878";
const before: readonly JobPhase[] = ["queued", "planning", "preparing", "prepared", "scripts"];

export type Seen = {
	/** 0: there is none. */
	readonly freezer: number;
	readonly runDir: string;
	readonly jobId: string;
	readonly phase: string;
};

/** Undefined: the hold is over. */
export function findPoint({ freezer, runDir, jobId, phase }: Seen): Point | undefined {
	const calls = findFreezeCalls(freezer).map(({ command }) => command);
	if (calls.includes(freezeCall)) return "freezing";
	if (calls.includes(thawCall)) return "thawing";
	const states = findLedgerSync(join(runDir, "freezes", `${jobId}.json`))?.fileSystems.map(({ state }) => state);
	if (states?.includes("freezing")) return phase === "frozen" || phase === "thawing" ? phase : "freezing";
	if (states?.includes("thawed") || states?.includes("not-frozen")) return "thawing";
	if (states?.includes("frozen")) return phase === "thawing" ? "thawing" : "frozen";
	if (phase === "thawing") return "thawing";
	return before.includes(phase as JobPhase) ? "before" : undefined;
}

/** FIFREEZE and FITHAW that threads of the process are in. */
export function findFreezeCalls(pid: number): { thread: string; command: string }[] {
	return listThreads(pid).flatMap((thread) => {
		const command = readOrEmpty(`/proc/${pid}/task/${thread}/syscall`).split(" ")[2];
		return command === freezeCall || command === thawCall ? [{ thread, command }] : [];
	});
}

function listThreads(pid: number): string[] {
	try {
		return pid > 0 ? readdirSync(`/proc/${pid}/task`) : [];
	} catch {
		return [];
	}
}

function readOrEmpty(path: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch {
		return "";
	}
}
