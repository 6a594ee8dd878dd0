import { statSync } from "node:fs";
import { dirname } from "node:path";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import type { FreezerCommand, FreezerEvent, Ledger } from "../../../contracts/freezer-protocol.ts";
import type { FreezeCalls, ProcessCalls } from "../freeze-calls.ts";
import { mayBeFrozenByUs } from "../freeze-states.ts";
import type { ProcessIdentity } from "../process-identity.ts";
import { expedite, isExpedited } from "../rcu-expedited.ts";
import { closeFolders, isHeld, openTargetFolder } from "../target-folders.ts";
import { commandLimitBytes, createLineSplitter, parseFreezerCommand } from "./command-lines.ts";
import { freezeAll } from "./freeze-all.ts";
import { type HeldFileSystem, type HoldOptions, recordQuietly, type ThawCause } from "./hold.ts";
import { removeLedger, writeLedger } from "./ledger-file.ts";
import { rehearse } from "./rehearsal.ts";
import { thawAll, thawSome } from "./thaw-all.ts";

export type FreezerOptions = {
	readonly input: Readable;
	/** Must be non-blocking: a parent that does not read can't hold up the thaw. */
	readonly output: Writable;
	readonly calls: FreezeCalls;
	readonly processCalls: ProcessCalls;
	readonly self: ProcessIdentity;
	readonly threads: number;
	/** Aborted by SIGTERM, SIGINT and SIGHUP. */
	readonly signal: AbortSignal;
	readonly nowMs: () => number;
	/** For tests: the switch, by default the kernel's, and how long it may be on at most. */
	readonly expediting?: { readonly switchPath: string; readonly limitMs: number };
};

type Targets = Extract<FreezerCommand, { type: "targets" }>;
type Freeze = Extract<FreezerCommand, { type: "freeze" }>;
type Prepared = { readonly command: Targets; readonly fileSystems: HeldFileSystem[]; readonly pinnedBytes: number };

/** A freeze that takes longer than this waits for a disk or a writer; the whole machine need not pay for it. */
const expeditedLimitMs = 1_000;
/** The parent may take this long to read the last lines before they are thrown away. */
const lastWordsLimitMs = 1_000;

/**
 * One hold, from `targets` to `thawed`. Returns whether everything that it froze is thawed.
 * Whatever ends it (asked, deadline, the parent gone, a signal, a line that is no command), it thaws first.
 */
export async function runFreezer(options: FreezerOptions): Promise<"clean" | "something-frozen"> {
	const { output, nowMs } = options;
	const stop = new AbortController();
	const end = (cause: ThawCause): void => stop.abort(cause);
	options.signal.addEventListener("abort", () => end("signal"), { once: true });
	if (options.signal.aborted) end("signal");
	output.on("error", () => undefined);
	const say = (...events: FreezerEvent[]): void => {
		if (output.writable) output.write(events.map((event) => `${JSON.stringify(event)}\n`).join(""));
	};

	let prepared: Promise<Prepared> | undefined;
	let held: Promise<void> | undefined;
	let deadlineAtMs: number | undefined;
	/** Set when all is frozen. */
	let frozen: HoldOptions | undefined;
	let deadline: NodeJS.Timeout | undefined;
	const inFlight = new Map<HeldFileSystem, Promise<void>>();
	const done = Promise.withResolvers<void>();
	stop.signal.addEventListener("abort", () => done.resolve(), { once: true });

	function fail(failure: Omit<Extract<FreezerEvent, { type: "failed" }>, "type">): void {
		if (stop.signal.aborted) return;
		say({ type: "failed", ...failure });
		end("failed");
	}

	function obey(command: FreezerCommand): void {
		if (stop.signal.aborted) return;
		switch (command.type) {
			case "targets":
				if (prepared !== undefined) throw new StillpointError("message-invalid", "targets were told before");
				prepared = prepare(options, command);
				prepared.then(
					({ pinnedBytes }) => say({ type: "ready", pinnedBytes }),
					(error: unknown) => fail({ reason: "cannot-open", message: asStillpointError(error).message }),
				);
				return;
			case "freeze":
				if (prepared === undefined || held !== undefined)
					throw new StillpointError("message-invalid", "freeze was told without targets, or twice");
				deadline = setTimeout(end, command.holdLimitMs, "deadline" satisfies ThawCause);
				deadlineAtMs = nowMs() + command.holdLimitMs;
				held = hold(prepared, command, deadlineAtMs);
				held.catch((error: unknown) => fail({ reason: "freeze-failed", message: asStillpointError(error).message }));
				return;
			case "thaw":
				if (command.superblocks === undefined) end("asked");
				// No snapshot is taken before all is frozen: an earlier one is a mistake, and the thaw of all follows anyway.
				else if (frozen !== undefined) void thawSome(frozen, command.superblocks);
		}
	}

	async function hold(ready: Promise<Prepared>, command: Freeze, endsAtMs: number): Promise<void> {
		const { fileSystems, command: targets } = await ready;
		if (stop.signal.aborted) return;
		const { switchPath, limitMs = expeditedLimitMs } = options.expediting ?? {};
		const putBack = command.expedited ? expedite(dirname(targets.ledgerPath), options.self, switchPath) : undefined;
		const expedited = putBack !== undefined || isExpedited(switchPath);
		const expediting = setTimeout(() => putBack?.(), limitMs);
		const toHold = holdOptions(fileSystems, targets, command.freezeLimitMs);
		try {
			const failure = await freezeAll(toHold, inFlight);
			if (failure !== undefined) fail(failure);
			if (stop.signal.aborted) return;
			frozen = toHold;
			const atMs = nowMs();
			// Before anything else: writers wait. To a rescuer "freezing" of the ledger means the same as "frozen".
			say({ type: "frozen", atMs, leftMs: Math.max(0, endsAtMs - atMs), expedited });
		} finally {
			clearTimeout(expediting);
			putBack?.();
		}
		recordQuietly(toHold);
	}

	function holdOptions(fileSystems: HeldFileSystem[], targets: Targets, freezeLimitMs: number): HoldOptions {
		return {
			fileSystems,
			calls: options.calls,
			freezeLimitMs,
			threads: options.threads,
			stop: stop.signal,
			onState: () => recordState(options, targets, fileSystems, deadlineAtMs),
			onEvents: (events) => say(...events),
			nowMs,
		};
	}

	readCommands(options.input, {
		onCommand: obey,
		onEnd: () => end("eof"),
		onFault: (message) => fail({ reason: "bad-message", message }),
	});
	await done.promise;
	const ready = await prepared?.catch(() => undefined);
	// Even a hold that failed to begin (a ledger that can't be written) goes this way.
	const fileSystems = ready?.fileSystems ?? [];
	const answers = ready ? await thawAll(holdOptions(fileSystems, ready.command, 0), inFlight) : [];
	clearTimeout(deadline);
	options.input.destroy();
	const stillFrozen = fileSystems.some((one) => mayBeFrozenByUs(one.state));
	if (ready && !stillFrozen) removeLedger(ready.command.ledgerPath);
	say({ type: "thawed", cause: stop.signal.reason as ThawCause, atMs: nowMs(), fileSystems: answers });
	closeFolders(fileSystems);
	await Promise.race([
		new Promise<void>((resolve) => output.end(resolve)),
		sleep(lastWordsLimitMs, undefined, { ref: false }),
	]);
	output.destroy();
	return stillFrozen ? "something-frozen" : "clean";
}

async function prepare(options: FreezerOptions, command: Targets): Promise<Prepared> {
	const superblocks = new Set(command.targets.map((target) => target.superblock));
	if (superblocks.size < command.targets.length)
		throw new StillpointError("message-invalid", "a superblock is named twice");
	refuseFrozenLedger(command);
	const opened = await Promise.all(command.targets.map((target) => openTargetFolder(target)));
	const folders = opened.filter(isHeld);
	const fault = opened.find((one) => !isHeld(one));
	if (fault !== undefined && !isHeld(fault)) {
		closeFolders(folders);
		throw new StillpointError("freeze-failed", `${fault.target.mountPoint} ${fault.message}`);
	}
	const fileSystems = folders.map((folder): HeldFileSystem => ({ ...folder, state: "pending" }));
	try {
		recordState(options, command, fileSystems);
	} catch (cause) {
		closeFolders(folders);
		throw new StillpointError("state-unusable", `${command.ledgerPath} cannot be written`, { cause });
	}
	await rehearse(fileSystems, options);
	return { command, fileSystems, pinnedBytes: options.processCalls.pinProgram() };
}

/** Writing the ledger would hang: the order that made the plan has looked, this is the belt. */
function refuseFrozenLedger({ ledgerPath, targets }: Targets): void {
	const { dev } = statSync(dirname(ledgerPath), { bigint: true });
	const target = targets.find((one) => one.dev === String(dev));
	if (target !== undefined)
		throw new StillpointError("run-dir-unsafe", `${ledgerPath} lies on ${target.mountPoint}, which would be frozen`);
}

function recordState(
	options: FreezerOptions,
	command: Targets,
	fileSystems: readonly HeldFileSystem[],
	deadlineAtMs?: number,
): void {
	const ledger: Ledger = {
		schemaVersion: 1,
		jobId: command.jobId,
		bootId: command.bootId,
		freezer: options.self,
		...(deadlineAtMs === undefined ? {} : { deadlineAtMs }),
		fileSystems: fileSystems.map(({ target, fd, state }) => ({ ...target, state, fd })),
	};
	writeLedger(command.ledgerPath, ledger);
}

type CommandHandlers = {
	readonly onCommand: (command: FreezerCommand) => void;
	readonly onEnd: () => void;
	readonly onFault: (message: string) => void;
};

function readCommands(input: Readable, { onCommand, onEnd, onFault }: CommandHandlers): void {
	const splitter = createLineSplitter(commandLimitBytes);
	input.on("data", (chunk: Buffer) => {
		try {
			for (const line of splitter.push(chunk)) onCommand(parseFreezerCommand(line));
		} catch (error) {
			onFault(asStillpointError(error).message);
		}
	});
	input.on("end", onEnd);
	input.on("error", onEnd);
	input.on("close", onEnd);
}
