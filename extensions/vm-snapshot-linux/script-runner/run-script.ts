import { setTimeout as sleep } from "node:timers/promises";
import { asStillpointError, type StillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import { within } from "../../../platform/within.ts";
import { endOrKill, exitFields, judgeExit, scriptFailure } from "./judge-exit.ts";
import { type Launch, prepareLaunchWithin } from "./launch-script.ts";
import type { OnRuns, RunnableStep, ScriptContext, ScriptEnd } from "./script-step.ts";
import { type RunningScript, type ScriptExit, startScript } from "./start-script.ts";

export type RunOptions = {
	/** Of post. */
	readonly end?: ScriptEnd;
	readonly signal?: AbortSignal;
	readonly onRuns?: OnRuns;
	/** It ended well and keeps processes: to be called when they shall end. */
	readonly onKept?: (letGo: () => Promise<void>) => void;
};

/** Between attempts: doubled each time. */
const firstPauseMs = 100;
const longestPauseMs = 5_000;
/** Of the second look at a script's file, after its end: milliseconds, unless its disk does not answer. */
const checkLimitMs = 30_000;

type Attempt = {
	readonly script: RunningScript;
	readonly exit: ScriptExit;
	readonly error: StillpointError | undefined;
};

/**
 * Runs one pre or post script to its end, its deadline or the signal, again as often as its retries say; see
 * `startScript` for what is left of it then. Never rejects: success is exit status 0 within the deadline of a script
 * that is still the one that was checked; all else stands in `error`.
 */
export async function runScript(
	step: RunnableStep,
	context: ScriptContext,
	options: RunOptions = {},
): Promise<ScriptReport> {
	const startedAtMs = performance.now();
	const base = { name: step.name, phase: step.phase };
	try {
		options.signal?.throwIfAborted();
		await using launch = await prepareLaunchWithin(step, context, options.signal);
		const deadline = AbortSignal.timeout(step.deadlineMs);
		const stop = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]);
		let attempts = 0;
		for (;;) {
			attempts += 1;
			const { script, exit, error } = await attempt(launch, step, { ...options, context, deadline, stop });
			const timedOut = error?.code === "script-timeout";
			if (error !== undefined && attempts <= (step.retries ?? 0) && mayHelp(error)) {
				const pauseMs = Math.min(firstPauseMs * 2 ** (attempts - 1), longestPauseMs);
				await sleep(pauseMs, undefined, { signal: stop }).catch(() => undefined);
				if (!stop.aborted) continue;
			}
			return {
				...base,
				...exitFields(exit),
				timedOut,
				...(step.retries ? { attempts } : {}),
				durationMs: performance.now() - startedAtMs,
				outputTail: script.tail(),
				...(error === undefined ? {} : { error: scriptFailure(error) }),
			};
		}
	} catch (thrown) {
		const error = scriptFailure(asStillpointError(thrown));
		const timedOut = error.code === "script-timeout";
		return { ...base, timedOut, durationMs: performance.now() - startedAtMs, outputTail: "", error };
	}
}

async function attempt(
	launch: Launch,
	step: RunnableStep,
	given: RunOptions & { context: ScriptContext; deadline: AbortSignal; stop: AbortSignal },
): Promise<Attempt> {
	const { context, deadline, stop, signal } = given;
	given.onRuns?.("starting");
	const script = startScript(launch, step, context.job, given.end);
	given.onRuns?.(script.pid);
	const killed = await endOrKill(script, stop);
	const exit = await script.ended;
	const timedOut = killed && deadline.aborted && signal?.aborted !== true;
	const what = `${step.phase} script of ${step.name}`;
	const error =
		(await findChange(launch)) ?? judgeExit(what, exit, { timedOut, killed, deadlineMs: step.deadlineMs, signal });
	if (error === undefined && step.keepsProcesses === true) given.onKept?.(() => script.letGo());
	else await script.letGo();
	given.onRuns?.(undefined);
	return { script, exit, error };
}

/** Another attempt would run what was not checked; or there is no time, or nobody who waits for it. */
function mayHelp({ code }: StillpointError): boolean {
	return code === "script-failed";
}

export async function findChange(launch: Launch): Promise<StillpointError | undefined> {
	try {
		await within(launch.checkUnchanged(), checkLimitMs, `looking at ${launch.realPath} again`);
		return undefined;
	} catch (error) {
		return asStillpointError(error);
	}
}
