import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import type { ScriptJob } from "../../../contracts/script-input.ts";
import { ordinaryOomScore } from "../../../platform/linux/ordinary-oom-score.ts";
import { findProcessIdentity, type ProcessIdentity } from "../../../platform/linux/process-identity.ts";
import { folderDescriptor, type Launch } from "./launch-script.ts";
import { LineSplitter } from "./line-splitter.ts";
import { OutputTail } from "./output-tail.ts";
import { scriptEnvironment, scriptInput } from "./script-facts.ts";
import { endScriptGroup, endScriptProcesses, listGroup } from "./script-processes.ts";
import { phaseOf, type RunnableStep, type ScriptEnd } from "./script-step.ts";

export type ScriptExit = { readonly exitCode?: number; readonly signal?: string; readonly spawnError?: string };

export type RunningScript = {
	/** Leader of its process group; undefined when it could not be started. */
	readonly pid: number | undefined;
	readonly startedAtMs: number;
	/** Settles when the process has ended, or could not be started; never rejects. What it printed until then is read. */
	readonly ended: Promise<ScriptExit>;
	/** A whole line on stdout, without its end. Lines over 4096 characters are cut and end in `…`. */
	onLine(listener: (line: string) => void): void;
	/** Ignored when the process is gone. */
	write(text: string): void;
	/** Ends everything that descends from it, wherever that went. Resolves when it ended. Never while disks are frozen. */
	kill(): Promise<void>;
	/** Ends what `keepsProcesses` left of it after a good end. */
	letGo(): Promise<void>;
	/** The last 4 KiB of stdout and stderr. */
	tail(): string;
};

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

const tailBytes = 4096;
const lineLimit = 4096;
/** After the end of the process: for output that a child of it still holds open. */
const drainMs = 100;
/** More than the time that killing takes at most: a process that a disk holds does not end. */
const stuckMs = 1_000;

/**
 * Starts a script in a session and process group of its own, with nothing of our environment and its input on stdin;
 * that of a session stays open. What it leaves in its group when it ends is killed, unless `keepsProcesses` has it.
 */
export function startScript(launch: Launch, step: RunnableStep, job: ScriptJob, end?: ScriptEnd): RunningScript {
	const startedAtMs = performance.now();
	const tail = new OutputTail(tailBytes);
	const lines = new LineSplitter(lineLimit);
	const stuck = Promise.withResolvers<void>();
	const started = spawnLaunch(launch, scriptEnvironment(job, step, { end, realPath: launch.realPath }));
	if ("spawnError" in started) return neverStarted(started, startedAtMs);
	const child: Child = started;
	const leader = child.pid === undefined ? undefined : findProcessIdentity(child.pid);
	const wanted = (one: ProcessIdentity) => ({ mark: step.mark, phase: phaseOf(step), since: one, leader: one });
	let left: ProcessIdentity[] = [];
	let kept = false;
	const { stdin, stdout, stderr } = child;
	for (const stream of [stdin, stdout, stderr]) stream.on("error", () => undefined);
	stdout.on("data", (chunk: Buffer) => {
		tail.push(chunk);
		lines.push(chunk);
	});
	stderr.on("data", (chunk: Buffer) => tail.push(chunk));
	stdin.write(scriptInput(job, step, end));
	if (phaseOf(step) !== "session") stdin.end();
	const failed = new Promise<string>((resolve) => child.once("error", (error) => resolve(error.message)));
	const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
	const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
	const ended = waitForEnd();

	async function waitForEnd(): Promise<ScriptExit> {
		if (child.pid === undefined) return { spawnError: await failed };
		await Promise.race([exited, stuck.promise]);
		await Promise.race([closed, sleep(drainMs)]);
		// What lies in the pipes by now is read before the streams end, however late this process is itself.
		await nextTurn();
		await nextTurn();
		kept = step.keepsProcesses === true && child.exitCode === 0;
		if (kept) left = listGroup(child.pid);
		else endNow();
		return {
			...(child.exitCode === null ? {} : { exitCode: child.exitCode }),
			...(child.signalCode === null ? {} : { signal: child.signalCode }),
		};
	}

	function endNow(): void {
		try {
			if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
		} catch {
			// ESRCH: nothing is left of the group.
		}
		closeStreams();
	}

	function closeStreams(): void {
		for (const stream of [stdin, stdout, stderr]) stream.destroy();
		lines.end();
	}

	return {
		pid: child.pid,
		startedAtMs,
		ended,
		onLine: (listener) => lines.listen(listener),
		write(text) {
			if (stdin.writable) stdin.write(text);
		},
		async kill() {
			if (leader !== undefined) await endScriptProcesses(wanted(leader));
			const limit = setTimeout(() => stuck.resolve(), stuckMs);
			await ended;
			clearTimeout(limit);
		},
		async letGo() {
			if (!kept || leader === undefined) return;
			await endScriptGroup(wanted(leader), left);
			closeStreams();
		},
		tail: () => tail.text(),
	};
}

function spawnLaunch(launch: Launch, environment: Record<string, string>): Child | { readonly spawnError: string } {
	const { program, args, argv0, folder } = launch;
	// What is ignored above stderr is not opened.
	const between = folder === undefined ? [] : [...Array<"ignore">(folderDescriptor - 3).fill("ignore"), folder];
	try {
		using _ = ordinaryOomScore();
		const child = spawn(program, args, {
			cwd: "/",
			env: { ...environment, ...launch.environment },
			detached: true,
			stdio: ["pipe", "pipe", "pipe", ...between],
			...(argv0 === undefined ? {} : { argv0 }),
		});
		child.on("error", () => undefined);
		// Out of descriptors, Node makes no streams.
		if (child.stdin) return child as Child;
		return { spawnError: "out of file descriptors" };
	} catch (error) {
		return { spawnError: (error as Error).message };
	}
}

function neverStarted(exit: ScriptExit, startedAtMs: number): RunningScript {
	return {
		pid: undefined,
		startedAtMs,
		ended: Promise.resolve(exit),
		onLine: () => undefined,
		write: () => undefined,
		kill: () => Promise.resolve(),
		letGo: () => Promise.resolve(),
		tail: () => "",
	};
}
