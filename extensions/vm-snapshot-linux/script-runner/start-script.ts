import { userInfo } from "node:os";
import { dirname } from "node:path";
import { StringDecoder } from "node:string_decoder";
import { setTimeout as sleep } from "node:timers/promises";
import type { ScriptJob, ScriptOutcome, ScriptPhase } from "../../../contracts/script-input.ts";
import { OutputTail } from "./output-tail.ts";

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
	/** SIGTERM to the whole process group, SIGKILL after the grace time. Resolves when it ended. */
	kill(): Promise<void>;
	/** The last 4 KiB of stdout and stderr. */
	tail(): string;
};

const tailBytes = 4096;
const lineLimit = 4096;
/** From SIGTERM to SIGKILL. */
const killGraceMs = 500;
/** After the end of the process: for output that a child of it still holds open. */
const drainMs = 100;

/**
 * Starts a script in a process group of its own with nothing of our environment. No shell.
 * What it leaves behind in its group when it ends is killed: a script that wants to stay is a session script.
 */
export async function startScript(
	command: readonly string[],
	phase: ScriptPhase,
	job: ScriptJob,
	outcome?: ScriptOutcome,
): Promise<RunningScript> {
	const { execa } = await import("execa");
	const [program, ...args] = command as [string, ...string[]];
	const startedAtMs = performance.now();
	const child = execa(program, args, {
		cwd: "/",
		env: scriptEnvironment(phase, job, outcome),
		extendEnv: false,
		stdin: "pipe",
		stdout: "pipe",
		stderr: "pipe",
		encoding: "buffer",
		buffer: false,
		reject: false,
		killDescendants: true,
		forceKillAfterDelay: false,
	});
	const tail = new OutputTail(tailBytes);
	const lines = new LineSplitter(lineLimit);
	const { stdin, stdout, stderr, nodeChildProcess: native } = child;
	for (const stream of [stdin, stdout, stderr]) stream.on("error", () => undefined);
	stdout.on("data", (chunk: Buffer) => {
		tail.push(chunk);
		lines.push(chunk);
	});
	stderr.on("data", (chunk: Buffer) => tail.push(chunk));
	if (phase !== "session") stdin.end();
	const ended = waitForEnd();

	async function waitForEnd(): Promise<ScriptExit> {
		const result = child.then(
			(value) => (value.cause instanceof Error && child.pid === undefined ? value.cause.message : undefined),
			(error: unknown) => String(error),
		);
		if (child.pid === undefined) return { spawnError: (await result) ?? "could not be started" };
		if (native.exitCode === null && native.signalCode === null) {
			await new Promise<void>((resolve) => native.once("exit", () => resolve()));
		}
		await Promise.race([result, sleep(drainMs)]);
		signalGroup("SIGKILL");
		for (const stream of [stdin, stdout, stderr]) stream.destroy();
		lines.end();
		return {
			...(native.exitCode === null ? {} : { exitCode: native.exitCode }),
			...(native.signalCode === null ? {} : { signal: native.signalCode }),
		};
	}

	function signalGroup(signal: "SIGTERM" | "SIGKILL"): void {
		if (child.pid === undefined) return;
		try {
			process.kill(-child.pid, signal);
		} catch {
			// ESRCH: nothing is left of the group.
		}
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
			signalGroup("SIGTERM");
			const force = setTimeout(() => signalGroup("SIGKILL"), killGraceMs);
			await ended;
			clearTimeout(force);
		},
		tail: () => tail.text(),
	};
}

function scriptEnvironment(phase: ScriptPhase, job: ScriptJob, outcome?: ScriptOutcome): Record<string, string> {
	return {
		PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
		HOME: userInfo().homedir,
		LC_ALL: "C.UTF-8",
		STILLPOINT_JOB_ID: job.jobId,
		STILLPOINT_PHASE: phase,
		STILLPOINT_LEVEL: job.level,
		STILLPOINT_DISKS: job.disks.join(","),
		...(outcome === undefined ? {} : { STILLPOINT_OUTCOME: outcome }),
	};
}

/** A line that is longer than the limit is cut and marked: what is left of it must not be taken for a shorter one. */
class LineSplitter {
	readonly #limit: number;
	readonly #decoder = new StringDecoder("utf8");
	#rest = "";
	#early: string[] = [];
	#listener: ((line: string) => void) | undefined;

	constructor(limit: number) {
		this.#limit = limit;
	}

	push(chunk: Buffer): void {
		const parts = (this.#rest + this.#decoder.write(chunk)).split("\n");
		// One more than the limit, so that it is known to be cut when its end comes later.
		this.#rest = (parts.pop() ?? "").slice(0, this.#limit + 1);
		for (const part of parts) this.#tell(part);
	}

	end(): void {
		if (this.#rest !== "") this.#tell(this.#rest);
		this.#rest = "";
	}

	listen(listener: (line: string) => void): void {
		this.#listener = listener;
		for (const line of this.#early.splice(0)) listener(line);
	}

	#tell(part: string): void {
		const line = part.length > this.#limit ? `${part.slice(0, this.#limit)}…` : part.trimEnd();
		if (this.#listener !== undefined) this.#listener(line);
		else if (this.#early.length < 64) this.#early.push(line);
	}
}
