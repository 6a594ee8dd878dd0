import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../contracts/errors.ts";
import { parseCommandLine } from "./command-line-words.ts";
import { appendCommandLog, commandLogPath, commandOutputPath, openOutput, readTail } from "./command-log.ts";
import { type CommandSlot, dropSlot, findSlot, readSlotResult, slotResultPath, writeSlot } from "./command-slot.ts";
import { handlerEnvironment } from "./handler-environment.ts";
import type { HandlerPlace } from "./handler-place.ts";
import {
	commandMark,
	endHandlerProcesses,
	findHandlerProcesses,
	handlerMark,
	instanceMark,
	mountLabel,
} from "./handler-processes.ts";
import { type CommandName, type HostPorts, untilProgramsMayStart } from "./host-ports.ts";
import { makeMountPoints, plainCommand, prepareView, viewCommand } from "./private-view.ts";

export type HandlerCommandRun = {
	readonly place: HandlerPlace;
	readonly what: CommandName;
	/** The manifest's command line. */
	readonly command: string;
	readonly instance?: string | undefined;
	readonly sequenceNumber: number;
	/** Azure's variables of this command. */
	readonly environment?: Readonly<Record<string, string>>;
	/** Folders of the other version, at an update. */
	readonly shown?: readonly string[];
};

export type CommandOutcome = {
	/** Undefined when it did not end by itself. */
	readonly exitStatus?: number | undefined;
	readonly timedOut: boolean;
	readonly durationMs: number;
	/** When it was started; maybe by an earlier life of the agent. */
	readonly at: string;
	readonly outputTail: string;
	/** Why it could not even begin. */
	readonly fault?: string | undefined;
};

const adoptPollMs = 200;
/** The mount points may be removed by another agent's end between our look and the mount. */
const viewTries = 3;

/**
 * Runs one of the five commands to its end and answers how it ended. One that an earlier life of the agent started is
 * taken up. At its deadline, at the stop of the service and after a failure every process of this run is ended; what a
 * command leaves behind after success lives on. The outcome stays noted until `dropSlot`, which the caller does after
 * it has written what follows from it.
 * @throws the reason of `stopping`; `tool-missing` without util-linux
 */
export async function runHandlerCommand(run: HandlerCommandRun, ports: HostPorts): Promise<CommandOutcome> {
	const { place, what, instance } = run;
	const taken = await takeUp(run, ports);
	if (taken !== undefined) return taken;
	for (let tries = 1; ; tries += 1) {
		await ports.hold.write(async () => {
			await mkdir(place.private.folder, { recursive: true, mode: 0o700 });
			await mkdir(place.eventsFolder, { recursive: true, mode: 0o700 });
			if (place.isForeign) await prepareView(place, run.shown ?? []);
			if (place.isForeign) await makeMountPoints(ports.folders.extensionsDir);
		});
		const outcome = await runOnce(run, ports);
		if (outcome.fault !== undefined && tries < viewTries) continue;
		await ports.hold.write(() => appendCommandLog(commandLogPath(place.logFolder, instance), logText(run, outcome)));
		ports.log.info("an extension's command ended", {
			extension: place.name,
			version: place.version,
			...(instance === undefined ? {} : { instance }),
			command: what,
			exitStatus: outcome.exitStatus,
			durationMs: Math.round(outcome.durationMs),
		});
		return outcome;
	}
}

/** @throws `extension-timeout`, `extension-failed` with the tail of its output, unless it ended with 0. */
export function requireSuccess(run: HandlerCommandRun, outcome: CommandOutcome): void {
	if (outcome.exitStatus === 0) return;
	const { name, version } = run.place;
	const who = `${run.what} of ${run.instance === undefined ? name : `${name}/${run.instance}`} ${version}`;
	const details = { outputTail: outcome.outputTail };
	if (outcome.timedOut) throw new StillpointError("extension-timeout", `${who} took too long`, { details });
	if (outcome.fault !== undefined)
		throw new StillpointError("extension-failed", `${who} was not run: ${outcome.fault}`, { details });
	const how = outcome.exitStatus === undefined ? "was ended" : `ended with exit status ${outcome.exitStatus}`;
	const hint = outcome.exitStatus === 126 ? " (not executable, or on a file system that is mounted noexec?)" : "";
	throw new StillpointError("extension-failed", `${who} ${how}${hint}`, { details });
}

async function runOnce(run: HandlerCommandRun, ports: HostPorts): Promise<CommandOutcome> {
	const { place, what } = run;
	const token = randomBytes(12).toString("hex");
	const slot: CommandSlot = { key: keyOf(run), token, bootId: ports.bootId, startedAt: new Date().toISOString() };
	const outputPath = commandOutputPath(place.logFolder, what, run.instance);
	await using files = new AsyncDisposableStack();
	const [output, result] = await ports.hold.write(async (): Promise<[FileHandle, FileHandle]> => {
		await writeSlot(place.private, slot);
		return [files.use(await openOutput(outputPath)), files.use(await open(slotResultPath(place.private), "a", 0o600))];
	});
	await untilProgramsMayStart(ports, ports.stopping);
	const began = performance.now();
	const child = start(run, ports, token, output.fd, result.fd);
	const limitMs = ports.limits.commandMs[what];
	const timedOut = await waitForEnd(child, limitMs, ports.stopping, () => end(run, token, ports));
	const told = await readSlotResult(place.private);
	if (told.exitStatus !== 0) await end(run, token, ports);
	const outputTail = await readTail(outputPath);
	const fault = told.began || timedOut ? undefined : `no private mount namespace: ${firstLine(outputTail)}`;
	return {
		exitStatus: timedOut ? undefined : told.exitStatus,
		timedOut,
		durationMs: performance.now() - began,
		at: slot.startedAt,
		outputTail,
		fault,
	};
}

function start(run: HandlerCommandRun, ports: HostPorts, token: string, output: number, result: number): ChildProcess {
	const { place } = run;
	const [program, ...words] = place.isForeign
		? viewCommand(place, ports.folders, mountLabel(token, run.instance), run.command, run.shown ?? [])
		: plainCommand(parseCommandLine(run.command, place.folder));
	return spawn(program, words, {
		cwd: place.isForeign ? "/" : place.folder,
		env: {
			...handlerEnvironment(
				{ folder: place.seen.folder, version: place.version },
				{
					...run.environment,
					ConfigSequenceNumber: String(run.sequenceNumber),
					...(run.instance === undefined ? {} : { [instanceMark]: run.instance }),
				},
			),
			[handlerMark]: place.private.stateView,
			[commandMark]: token,
		},
		detached: true,
		stdio: ["ignore", output, output, result],
	});
}

/** @returns whether the deadline passed. @throws the reason of the signal, after everything was ended */
async function waitForEnd(
	child: ChildProcess,
	limitMs: number,
	stopping: AbortSignal,
	endAll: () => Promise<unknown>,
): Promise<boolean> {
	const ended = Promise.withResolvers<"exit">();
	child.on("exit", () => ended.resolve("exit"));
	child.on("error", (cause: NodeJS.ErrnoException) =>
		ended.reject(
			new StillpointError("tool-missing", `${cause.path ?? "unshare"} (util-linux): ${cause.code}`, { cause }),
		),
	);
	const late = Promise.withResolvers<"late">();
	const timer = setTimeout(() => late.resolve("late"), limitMs);
	const stop = () => late.resolve("late");
	stopping.addEventListener("abort", stop, { once: true });
	if (stopping.aborted) stop();
	try {
		if ((await Promise.race([ended.promise, late.promise])) === "exit") return false;
		await endAll();
		stopping.throwIfAborted();
		return true;
	} finally {
		clearTimeout(timer);
		stopping.removeEventListener("abort", stop);
	}
}

/** Undefined when nothing was left, or nothing that is the same; what is left of another command is ended. */
async function takeUp(run: HandlerCommandRun, ports: HostPorts): Promise<CommandOutcome | undefined> {
	const { place } = run;
	const slot = await findSlot(place.private);
	if (slot === undefined) return undefined;
	await untilProgramsMayStart(ports, ports.stopping);
	// An `enable` that ended while nobody watched says nothing of now: it is level-triggered, and simply run again.
	const isRunning = findRun(run, slot.token).length > 0;
	const isSame = slot.key === keyOf(run) && (isRunning || run.what !== "enable");
	const endMs = Date.parse(slot.startedAt) + ports.limits.commandMs[run.what];
	let told = await readSlotResult(place.private);
	// A clock that was set back must not stretch the limit.
	const limitMs = Math.min(endMs - Date.now(), ports.limits.commandMs[run.what]);
	const giveUpMs = performance.now() + limitMs;
	while (isSame && told.exitStatus === undefined && performance.now() < giveUpMs) {
		await untilProgramsMayStart(ports, ports.stopping);
		if (findRun(run, slot.token).length === 0) break;
		await sleep(adoptPollMs, undefined, { signal: ports.stopping });
		told = await readSlotResult(place.private);
	}
	// It may have ended between the look at the file and the look for processes.
	told = await readSlotResult(place.private);
	const timedOut = isSame && told.exitStatus === undefined && limitMs > 0 && performance.now() >= giveUpMs;
	// What another one left after success lives on.
	if (told.exitStatus !== 0) await end(run, slot.token, ports);
	if (timedOut || (isSame && told.exitStatus !== undefined)) {
		const outputTail = await readTail(commandOutputPath(place.logFolder, run.what, run.instance));
		ports.log.info("took up a command of an extension from before", { extension: place.name, command: run.what });
		const durationMs = Math.max(0, Date.now() - Date.parse(slot.startedAt));
		return { exitStatus: told.exitStatus, timedOut, durationMs, at: slot.startedAt, outputTail };
	}
	ports.log.warn("an extension's command was interrupted with the agent", { extension: place.name, key: slot.key });
	await ports.hold.write(() => dropSlot(place.private));
	return undefined;
}

function findRun({ place }: HandlerCommandRun, token: string) {
	return findHandlerProcesses({ stateView: place.private.stateView, token });
}

async function end({ place }: HandlerCommandRun, token: string, ports: HostPorts): Promise<void> {
	await endHandlerProcesses({ stateView: place.private.stateView, token }, { mayLook: ports.mayStartPrograms });
}

function keyOf({ place, what, instance, sequenceNumber, environment }: HandlerCommandRun): string {
	return [place.version, what, instance ?? "", sequenceNumber, environment?.["VERSION"] ?? ""].join(" ");
}

function logText({ what, instance, place }: HandlerCommandRun, outcome: CommandOutcome): string {
	const how = outcome.timedOut ? "timed out" : `exit status ${outcome.exitStatus ?? "none"}`;
	const who = `${place.name}${instance === undefined ? "" : `/${instance}`} ${place.version}`;
	const text = outcome.outputTail.endsWith("\n") || outcome.outputTail === "" ? "" : "\n";
	return `${outcome.at} ${what} of ${who}: ${how}, ${Math.round(outcome.durationMs)} ms\n${outcome.outputTail}${text}`;
}

function firstLine(text: string): string {
	return text.split("\n")[0]?.slice(0, 200) || "unshare or mount failed";
}

/** SIGKILL to a process group; one that is gone is no fault. */
export function endGroup(leader: number | undefined): void {
	if (leader === undefined) return;
	try {
		process.kill(-leader, "SIGKILL");
	} catch {
		// Nobody is left in it.
	}
}
