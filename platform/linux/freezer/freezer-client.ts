import { spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../../contracts/errors.ts";
import { type FreezerEvent, type FreezeTarget, freezerEventSchema } from "../../../contracts/freezer-protocol.ts";
import { childEnvironment } from "../child-environment.ts";
import { findProcessIdentity, type ProcessIdentity } from "../process-identity.ts";
import { siblingProgram } from "../sibling-program.ts";
import { createLineSplitter } from "./command-lines.ts";

export type FreezerStart = {
	/** Program and arguments; by default the freezer beside this program, run by this Node. */
	readonly command?: readonly [string, ...string[]];
	/** At least two for each file system and four more; see `threadsFor`. */
	readonly threads: number;
	/** On tmpfs. Ledgers are kept in its folder `freezes`, which is made when it is missing. */
	readonly runDir: string;
	/** Every event as it comes, after its schema was checked. */
	readonly onEvent: (event: FreezerEvent) => void;
	/** Aborted: the freezer is asked to thaw and end. */
	readonly signal: AbortSignal;
};

type FreezerExit = {
	readonly status: number | null;
	readonly signal: NodeJS.Signals | null;
	/** The last of what it wrote to stderr. */
	readonly stderrTail: string;
};

type Prepare = {
	readonly jobId: string;
	readonly bootId: string;
	readonly targets: readonly FreezeTarget[];
	readonly limitMs: number;
};

type ReadyEvent = Extract<FreezerEvent, { type: "ready" }>;
export type FrozenEvent = Extract<FreezerEvent, { type: "frozen" }>;
type ThawedEvent = Extract<FreezerEvent, { type: "thawed" }>;

export type Freezer = {
	readonly identity: ProcessIdentity;
	/** Its end, reaped: from then on none of its FIFREEZE is in flight. A closed pipe is no such proof. */
	readonly exited: Promise<FreezerExit>;
	/** `thawed`, however it came about; rejects with `freezer-died` when the freezer ended without saying it. */
	readonly thawed: Promise<ThawedEvent>;
	/** Path of the ledger of this job. */
	ledgerPath(jobId: string): string;
	/** Opens every target. @throws `freeze-failed` (cannot open), `deadline-passed`, `freezer-died`. */
	prepare(prepare: Prepare): Promise<ReadyEvent>;
	/**
	 * Resolves when all is frozen. @throws `freeze-failed`, `freeze-late`, `foreign-freeze`, `freezer-died`, and
	 * `deadline-passed` when it says nothing until its own deadline and a second are over.
	 */
	freeze(freeze: { holdLimitMs: number; freezeLimitMs: number; expedited: boolean }): Promise<FrozenEvent>;
	/**
	 * Asks for the thaw of these alone, once all is frozen; the hold goes on for the others. Each answer comes as an event
	 * `fileSystem`, and again with `thawed`. One whose lower layer stays frozen is not thawed before that one is. Passed
	 * over: what is no superblock of the hold or was thawed before, and all of it when not all is frozen yet.
	 */
	thawSome(superblocks: readonly string[]): void;
	/** Asks for the thaw of all. @throws `stuck` when there is no `thawed` within `limitMs`, `freezer-died`. */
	thaw(limitMs: number): Promise<ThawedEvent>;
	/** SIGTERM makes it thaw and end; SIGKILL leaves frozen what is frozen: rescue before and after. */
	kill(signal: "SIGTERM" | "SIGKILL"): void;
};

/** Pool threads that a freezer of this many file systems needs, so that no FITHAW ever waits for a FIFREEZE. */
export function threadsFor(fileSystems: number): number {
	return Math.min(1024, 2 * fileSystems + 4);
}

const eventLimitBytes = 4 * 1024 * 1024;
const stderrLimit = 4096;

/** Starts the freezer process. Nothing is frozen before `freeze`. */
export function startFreezer(start: FreezerStart): Freezer {
	const [program, ...args] = start.command ?? [process.execPath, freezerEntry()];
	const child = spawn(program, args, {
		cwd: "/",
		// Its environment is ours alone: a NODE_OPTIONS or a debugger port of the parent has no place in it.
		env: childEnvironment(start.threads),
		stdio: ["pipe", "pipe", "pipe"],
	});
	const events = createEventWaiter();
	let stderrTail = "";
	child.stderr.setEncoding("utf8").on("data", (text: string) => {
		stderrTail = (stderrTail + text).slice(-stderrLimit);
	});
	child.stdin.on("error", () => undefined);

	const exited = new Promise<FreezerExit>((resolve) => {
		child.on("error", (error) => {
			stderrTail += error.message;
			if (child.pid === undefined) resolve({ status: null, signal: null, stderrTail });
		});
		child.on("exit", (status, signal) => resolve({ status, signal, stderrTail }));
	});
	// "close" comes after the last line of its stdout was read.
	child.on("close", () => events.end(died(stderrTail)));
	child.on("error", () => child.pid === undefined && events.end(died(stderrTail)));

	const splitter = createLineSplitter(eventLimitBytes);
	child.stdout.on("data", (chunk: Buffer) => {
		try {
			for (const line of splitter.push(chunk)) {
				const event = freezerEventSchema.parse(JSON.parse(line));
				start.onEvent(event);
				events.push(event);
			}
		} catch (cause) {
			events.end(new StillpointError("internal", "the freezer said something that is no event", { cause }));
			child.kill("SIGTERM");
		}
	});
	const onAbort = (): void => void child.kill("SIGTERM");
	start.signal.addEventListener("abort", onAbort, { once: true });
	if (start.signal.aborted) onAbort();
	exited.finally(() => start.signal.removeEventListener("abort", onAbort)).catch(() => undefined);

	const thawed = events.wait("thawed") as Promise<ThawedEvent>;
	thawed.catch(() => undefined);

	function tell(command: Record<string, unknown>): void {
		child.stdin.write(`${JSON.stringify(command)}\n`);
	}

	return {
		identity: (child.pid === undefined ? undefined : findProcessIdentity(child.pid)) ?? { pid: -1, startTime: "" },
		exited,
		thawed,
		ledgerPath: (jobId) => join(start.runDir, "freezes", `${jobId}.json`),
		async prepare({ jobId, bootId, targets, limitMs }) {
			await mkdir(join(start.runDir, "freezes"), { recursive: true, mode: 0o700 });
			tell({ type: "targets", jobId, bootId, targets, ledgerPath: join(start.runDir, "freezes", `${jobId}.json`) });
			rehearseParsing();
			return (await within(limitMs, events.wait("ready", "failed"), lateToPrepare).then(
				requireNoFailure,
			)) as ReadyEvent;
		},
		async freeze(freeze) {
			tell({ type: "freeze", ...freeze });
			const answer = events.wait("frozen", "failed", "thawed");
			return (await within(freeze.holdLimitMs + 1_000, answer, lateToFreeze).then(requireNoFailure)) as FrozenEvent;
		},
		thawSome(superblocks) {
			if (superblocks.length > 0) tell({ type: "thaw", superblocks: [...new Set(superblocks)] });
		},
		async thaw(limitMs) {
			tell({ type: "thaw" });
			return within(limitMs, thawed, lateToThaw);
		},
		kill: (signal) => void child.kill(signal),
	};
}

/** So that the engine has compiled the parser before the window: the first event of a kind takes as long as a freeze. */
function rehearseParsing(): void {
	const answer = { superblock: "0:0", result: "frozen", startedAtMs: 0, endedAtMs: 0 };
	const samples = [
		{ type: "fileSystem", ...answer },
		{ type: "frozen", atMs: 0, leftMs: 0, expedited: true },
		{ type: "thawed", cause: "asked", atMs: 0, fileSystems: [answer] },
	].map((sample) => JSON.stringify(sample));
	for (let round = 0; round < 50; round += 1)
		for (const sample of samples) freezerEventSchema.parse(JSON.parse(sample));
}

function requireNoFailure(event: FreezerEvent): FreezerEvent {
	if (event.type === "thawed")
		throw new StillpointError(
			event.cause === "deadline" ? "freeze-late" : "freeze-failed",
			`thawed before all was frozen (${event.cause})`,
			{
				details: { cause: event.cause },
			},
		);
	if (event.type !== "failed") return event;
	const { reason, message, superblock } = event;
	const details = { reason, ...(superblock === undefined ? {} : { superblock }) };
	const code = reason === "freeze-late" || reason === "foreign-freeze" ? reason : "freeze-failed";
	throw new StillpointError(code, message, { details });
}

/** Hands each event to who waits for its type, also when it came before the waiting. */
function createEventWaiter() {
	const past: FreezerEvent[] = [];
	const waiters = new Set<{
		types: readonly string[];
		resolve(event: FreezerEvent): void;
		reject(error: Error): void;
	}>();
	let ended: Error | undefined;
	return {
		push(event: FreezerEvent): void {
			past.push(event);
			for (const waiter of waiters) {
				if (!waiter.types.includes(event.type)) continue;
				waiters.delete(waiter);
				waiter.resolve(event);
			}
		},
		end(error: Error): void {
			ended ??= error;
			for (const waiter of waiters) waiter.reject(ended);
			waiters.clear();
		},
		wait(...types: FreezerEvent["type"][]): Promise<FreezerEvent> {
			const before = past.find((event) => types.includes(event.type));
			if (before !== undefined) return Promise.resolve(before);
			if (ended !== undefined) return Promise.reject(ended);
			return new Promise((resolve, reject) => waiters.add({ types, resolve, reject }));
		},
	};
}

async function within<T>(limitMs: number, work: Promise<T>, late: () => StillpointError): Promise<T> {
	const timer = new AbortController();
	try {
		return await Promise.race([
			work,
			sleep(limitMs, undefined, { signal: timer.signal }).then(
				async () => {
					// Who was stopped meanwhile meets its timers first: what was said before them is read in this turn.
					await nextTurn();
					throw late();
				},
				() => work,
			),
		]);
	} finally {
		timer.abort();
	}
}

function lateToPrepare(): StillpointError {
	return new StillpointError("deadline-passed", "the freezer did not open the file systems in time");
}

function lateToFreeze(): StillpointError {
	return new StillpointError("stuck", "the freezer said neither that all is frozen nor that it failed");
}

function lateToThaw(): StillpointError {
	return new StillpointError("stuck", "the freezer has not said that all is thawed");
}

function died(stderrTail: string): StillpointError {
	return new StillpointError("freezer-died", "the freezer process ended before it said how it ended", {
		details: { stderrTail },
	});
}

function freezerEntry(): string {
	return siblingProgram(import.meta.url, {
		source: "../../../extensions/vm-snapshot-linux/freezer.ts",
		bundled: "./freezer.mjs",
	});
}
