import { spawn } from "node:child_process";
import { join } from "node:path";
import { childEnvironment } from "./child-environment.ts";
import { createLineSplitter } from "./freezer/command-lines.ts";
import type { MarkerAnswer, MarkerRequest } from "./marker-files.ts";
import { siblingProgram } from "./sibling-program.ts";

/**
 * `stuck`: the write did not return in time: a foreign freeze or a disk that hangs; it may still happen later.
 * `failed`: any other errno.
 */
type ProbeResult = "ok" | "stuck" | "no-space" | "read-only" | "failed";

export type ProbeOptions = {
	/** A directory of each file system, as `openPath` of a target. */
	readonly folders: readonly string[];
	readonly jobId: string;
	readonly limitMs: number;
	/** Program and arguments of the probe process; by default the one beside this source, run by this Node. */
	readonly command?: readonly [string, ...string[]];
};

type Answer = { readonly result: ProbeResult; readonly errno?: string };
export type ProbeAnswer = Answer & { readonly folder: string };

/** What a marker file holds, one line of JSON. */
type Marker = { readonly jobId: string; readonly marker: string; readonly writtenAt: string };

export function markerName(jobId: string): string {
	return `.stillpoint-hold-${jobId}`;
}

/**
 * Writes a marker file into each folder and makes it durable, all in parallel. A write that blocks can't be taken
 * back, not even by SIGKILL, so a process of its own makes it, which is left behind when it does not come back.
 */
export function writeMarkers(options: ProbeOptions & { readonly nonce: string }): Promise<ProbeAnswer[]> {
	const content: Marker = { jobId: options.jobId, marker: options.nonce, writtenAt: new Date().toISOString() };
	return probeFolders(options, { type: "write", content: `${JSON.stringify(content)}\n` });
}

/** Takes the markers away; one that is not there is `ok`. Only after the thaw: it would hang before. */
export function removeMarkers(options: ProbeOptions): Promise<ProbeAnswer[]> {
	return probeFolders(options, { type: "remove" });
}

/** The same for files named by path, by one process, however many they are. Never rejects. */
export async function removeMarkerFiles(paths: readonly string[], limitMs: number): Promise<void> {
	await runProbe(paths, { limitMs }, { type: "remove" });
}

/**
 * Which of the folders lie on a frozen file system. It may take as long as a write that hangs (a lower layer that is
 * frozen, a dead disk), so the same process makes it; what has not answered within the limit is not among them.
 */
export async function findFrozen(folders: readonly string[], limitMs: number): Promise<string[]> {
	const answers = await runProbe(folders, { limitMs }, { type: "probe-frozen" });
	return folders.filter((_, index) => answers[index]?.errno === "EBUSY");
}

/** The same for each folder. `unknown`: it did not answer within the limit, or with another error. */
export async function probeFrozen(
	folders: readonly string[],
	limitMs: number,
): Promise<("frozen" | "not-frozen" | "unknown")[]> {
	const answers = await runProbe(folders, { limitMs }, { type: "probe-frozen" });
	return answers.map(({ result, errno }) =>
		errno === "EBUSY" ? "frozen" : result === "ok" ? "not-frozen" : "unknown",
	);
}

type Task =
	| { readonly type: "write"; readonly content: string }
	| { readonly type: "remove" }
	| { readonly type: "probe-frozen" };

async function probeFolders(options: ProbeOptions, request: Task): Promise<ProbeAnswer[]> {
	const { folders, jobId } = options;
	const paths = folders.map((folder) => join(folder, markerName(jobId)));
	const answers = await runProbe(paths, options, request);
	return answers.map((answer, index) => ({ folder: folders[index] as string, ...answer }));
}

async function runProbe(
	paths: readonly string[],
	{ limitMs, ...options }: Pick<ProbeOptions, "limitMs" | "command">,
	request: Task,
): Promise<Answer[]> {
	if (paths.length === 0) return [];
	const answers = new Map<number, Answer>();
	const [program, ...args] = options.command ?? [
		process.execPath,
		siblingProgram(import.meta.url, {
			source: "../../extensions/vm-snapshot-linux/write-probe.ts",
			bundled: "./write-probe.mjs",
		}),
	];
	const child = spawn(program, args, {
		cwd: "/",
		env: childEnvironment(Math.min(1024, paths.length + 2)),
		stdio: ["pipe", "pipe", "ignore"],
	});
	const ended = Promise.withResolvers<void>();
	const splitter = createLineSplitter(1024 * 1024);
	child.stdout.on("data", (chunk: Buffer) => {
		try {
			for (const line of splitter.push(chunk)) note(JSON.parse(line));
		} catch {
			child.kill("SIGKILL");
		}
	});
	function note({ index, errno }: MarkerAnswer): void {
		if (paths[index] === undefined) return;
		answers.set(index, { result: resultOf(errno), ...(errno === undefined ? {} : { errno }) });
		if (answers.size === paths.length) ended.resolve();
	}
	child.on("error", () => ended.resolve());
	child.on("close", () => ended.resolve());
	child.stdin.on("error", () => undefined);
	const asked: MarkerRequest = { ...request, paths };
	child.stdin.end(`${JSON.stringify(asked)}\n`);
	const timer = setTimeout(() => ended.resolve(), limitMs);
	await ended.promise;
	clearTimeout(timer);
	const late = child.exitCode === null && child.signalCode === null && answers.size < paths.length;
	child.kill("SIGKILL");
	child.stdout.destroy();
	child.unref();
	return paths.map((_, index) => answers.get(index) ?? { result: late ? "stuck" : "failed" });
}

function resultOf(errno: string | undefined): ProbeResult {
	switch (errno) {
		case undefined:
			return "ok";
		case "ENOSPC":
		case "EDQUOT":
			return "no-space";
		case "EROFS":
			return "read-only";
		default:
			return "failed";
	}
}
