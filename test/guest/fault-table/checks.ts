/** What must be true after every job that met a fault. Each check returns what is wrong, in words. */
import { readdirSync, readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import { loadFreezeCalls } from "../../../platform/linux/freeze-calls.ts";
import type { Lane } from "./lane.ts";

const proberLimitMs = 10_000;
const goneLimitMs = 6_000;

/**
 * No write since `sinceMs` (CLOCK_MONOTONIC) took longer than the limit, and all can be written now. Those that are
 * exempt need only be writable.
 */
export async function checkWriters(
	{ probers }: Pick<Lane, "probers">,
	sinceMs: number,
	limitMs: number,
	exempt: readonly string[] = [],
): Promise<{ longestWriteMs: number; faults: string[] }> {
	const found = await Promise.all(
		probers.map(async ({ folder, longestMs }) => {
			try {
				const { tookMs } = await longestMs(sinceMs, proberLimitMs);
				const fault = `${folder}: nothing could be written for ${Math.round(tookMs)} ms`;
				return { tookMs, faults: tookMs > limitMs && !exempt.includes(folder) ? [fault] : [] };
			} catch (error) {
				return { tookMs: proberLimitMs, faults: [String(error)] };
			}
		}),
	);
	return {
		longestWriteMs: Math.max(
			0,
			...found.map(({ tookMs }, index) => (exempt.includes(probers[index]?.folder ?? "") ? 0 : tookMs)),
		),
		faults: found.flatMap(({ faults }) => faults),
	};
}

/** What somebody else froze is frozen. */
export async function checkStillFrozen(mountPoint: string): Promise<string[]> {
	await using folder = await open(mountPoint, "r");
	const state = await (await loadFreezeCalls()).probeFrozen(folder.fd);
	return state === "frozen" ? [] : [`a freeze of others was undone: ${mountPoint} ${JSON.stringify(state)}`];
}

/** Whoever was made quiet was let go again: the post script ran, or the report says why not. */
export function checkScripts({ scripts }: Lane, jobId: string, job: ControllerJob | undefined): string[] {
	const notes = scripts.notesOf(jobId);
	const faults: string[] = [];
	const told = job?.report?.scripts ?? [];
	const wasStarted = notes.includes("pre") || told.some(({ phase }) => phase === "pre");
	const posts = notes.filter((note) => note.startsWith("post"));
	const isExplained = told.some(({ phase, error }) => phase === "post" && error !== undefined);
	if (wasStarted && posts.length === 0 && !isExplained) faults.push(`no post script: ${notes.join(", ")}`);
	if (job?.report?.achieved === "application" && !notes.includes("released release"))
		faults.push("a hold was not proved");
	return faults;
}

/** No process, no ledger and no undo of the job is left, and soon. */
export async function checkLeftovers(lane: Lane, jobId: string): Promise<string[]> {
	const endMs = performance.now() + goneLimitMs;
	for (;;) {
		const left = findLeftovers(lane, jobId);
		if (left.length === 0 || performance.now() > endMs) return left;
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
}

function findLeftovers({ folders }: Lane, jobId: string): string[] {
	const { runDir } = folders.flags;
	// By the environment: scripts have the job's id, the extension and what it starts its own folder.
	const marks = [`STILLPOINT_JOB_ID=${jobId}\0`, `AZURE_GUEST_AGENT_EXTENSION_PATH=${folders.root}/`];
	const left = readdirSync("/proc").filter((name) => {
		const environment = /^\d+$/.test(name) ? readOrEmpty(`/proc/${name}/environ`) : "";
		return marks.some((mark) => environment.includes(mark));
	});
	return [
		...left.map((pid) => `process ${pid} is left: ${readOrEmpty(`/proc/${pid}/cmdline`).replaceAll("\0", " ")}`),
		...["freezes", "undo"].flatMap((folder) =>
			listNames(join(runDir, folder)).map((name) => `${folder}/${name} is left`),
		),
	];
}

function listNames(folder: string): string[] {
	try {
		return readdirSync(folder);
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
