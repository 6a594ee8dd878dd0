import { asStillpointError, type ErrorCode, StillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import type { ScriptJob, ScriptOutcome } from "../../../contracts/script-input.ts";
import type { CheckTrust } from "./application-scripts.ts";
import { checkScriptTrust } from "./script-trust.ts";
import { type ScriptExit, startScript } from "./start-script.ts";

export type NamedStep = {
	/** The application; stands in the report. */
	readonly name: string;
	readonly command: readonly string[];
	readonly deadlineMs: number;
};

/**
 * Runs one pre or post script to its end, its deadline or the signal; the whole process tree is gone afterwards.
 * Never rejects: success is exit status 0 within the deadline, all else stands in `error`.
 */
export async function runScript(
	step: NamedStep,
	phase: "pre" | "post",
	job: ScriptJob,
	options: {
		checkTrust: CheckTrust;
		outcome?: ScriptOutcome;
		signal?: AbortSignal;
		/** Its process, and undefined when that has ended. */
		onRuns?: (pid: number | undefined) => void;
	},
): Promise<ScriptReport> {
	const startedAtMs = performance.now();
	const base = { name: step.name, phase };
	try {
		options.signal?.throwIfAborted();
		await checkScriptTrust(step.command, options.checkTrust);
	} catch (error) {
		const failure = scriptFailure(asStillpointError(error));
		return { ...base, timedOut: false, durationMs: performance.now() - startedAtMs, outputTail: "", error: failure };
	}
	const script = await startScript(step.command, phase, job, options.outcome);
	options.onRuns?.(script.pid);
	const deadline = AbortSignal.timeout(step.deadlineMs);
	const stop = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]);
	const killed = await endOrKill(script, stop);
	const exit = await script.ended;
	options.onRuns?.(undefined);
	const timedOut = killed && deadline.aborted && options.signal?.aborted !== true;
	const error = judgeExit(step.name, phase, exit, { timedOut, killed, deadlineMs: step.deadlineMs });
	return {
		...base,
		...exitFields(exit),
		timedOut,
		durationMs: performance.now() - script.startedAtMs,
		outputTail: script.tail(),
		...(error === undefined ? {} : { error: scriptFailure(error) }),
	};
}

/** Whether it had to be killed. */
export async function endOrKill(
	script: { ended: Promise<ScriptExit>; kill(): Promise<void> },
	stop: AbortSignal,
): Promise<boolean> {
	let killed = false;
	const { promise: stopped, resolve } = Promise.withResolvers<void>();
	const onAbort = () => resolve();
	stop.addEventListener("abort", onAbort);
	if (stop.aborted) resolve();
	await Promise.race([script.ended, stopped.then(() => (killed = true))]);
	stop.removeEventListener("abort", onAbort);
	if (killed) await script.kill();
	return killed;
}

export function judgeExit(
	name: string,
	phase: string,
	exit: ScriptExit,
	end: { timedOut: boolean; killed: boolean; deadlineMs: number },
): StillpointError | undefined {
	const what = `${phase} script of ${name}`;
	if (exit.spawnError !== undefined) return new StillpointError("script-failed", `${what}: ${exit.spawnError}`);
	if (end.timedOut) return new StillpointError("script-timeout", `${what}: no end after ${end.deadlineMs} ms`);
	if (end.killed) return new StillpointError("script-failed", `${what}: ended because the job was cancelled`);
	if (exit.exitCode === 0) return undefined;
	const how = exit.exitCode === undefined ? `ended by ${exit.signal ?? "?"}` : `exit status ${exit.exitCode}`;
	return new StillpointError("script-failed", `${what}: ${how}`);
}

export function exitFields(exit: ScriptExit): { exitCode?: number; signal?: string } {
	return {
		...(exit.exitCode === undefined ? {} : { exitCode: exit.exitCode }),
		...(exit.signal === undefined ? {} : { signal: exit.signal }),
	};
}

export function scriptFailure(error: StillpointError): { code: ErrorCode; message: string; retryable: boolean } {
	return { code: error.code, message: error.message, retryable: error.traits.retryable };
}
