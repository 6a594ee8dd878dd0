import { asStillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import type { ScriptJob } from "../../../contracts/script-input.ts";
import type { ApplicationScripts, CheckTrust, ScriptStep } from "./application-scripts.ts";
import { scriptFailure } from "./judge-exit.ts";
import { prepareLaunch } from "./launch-script.ts";
import { checkTrust as checkRootOwned } from "./prepare-applications.ts";
import { runScript } from "./run-script.ts";
import { newMark, type RunnableStep, runnableStep, type ScriptContext } from "./script-step.ts";
import { findScriptUser } from "./script-user.ts";

type Step = { readonly phase: ScriptReport["phase"]; readonly step: ScriptStep };

/**
 * Looks at every script of an application, and runs its `pre` or `session` with `--dry-run` where it knows that. Nothing
 * else is started. One report for each step, in the order session, pre, post: without `error` when nothing was found
 * fault with, with `exitCode` or `signal` only when it was really run. Never rejects.
 */
export async function dryRun(
	application: ApplicationScripts,
	job: ScriptJob,
	options: { checkTrust?: CheckTrust; runFolder: string; signal?: AbortSignal },
): Promise<ScriptReport[]> {
	const { checkTrust = checkRootOwned, runFolder, signal } = options;
	const context: ScriptContext = { job, checkTrust, runFolder };
	const { runAs } = application;
	const user = runAs === undefined ? undefined : await findScriptUser(runAs).catch(asStillpointError);
	const reports: ScriptReport[] = [];
	for (const { phase, step } of stepsOf(application)) {
		if (user instanceof Error) {
			reports.push({ ...nothingRun(application, phase), error: scriptFailure(user) });
			continue;
		}
		const run = { mark: newMark(), user };
		const real = runnableStep(application, phase, step, run);
		if (application.dryRun && phase !== "post") {
			const tried = { ...real, dryRun: true, keepsProcesses: false, command: [...real.command, "--dry-run"] };
			reports.push(await runScript(tried, context, signal === undefined ? {} : { signal }));
			continue;
		}
		const others = step.commandWithoutSnapshot === undefined ? [] : [{ ...real, command: step.commandWithoutSnapshot }];
		const error = await findFault([real, ...others], context);
		reports.push({ ...nothingRun(application, phase), ...(error === undefined ? {} : { error }) });
	}
	return reports;
}

async function findFault(steps: readonly RunnableStep[], context: ScriptContext): Promise<ScriptReport["error"]> {
	try {
		for (const step of steps) {
			await using launch = await prepareLaunch(step, context);
			await launch.checkUnchanged();
		}
		return undefined;
	} catch (error) {
		return scriptFailure(asStillpointError(error));
	}
}

function nothingRun({ application: name }: ApplicationScripts, phase: ScriptReport["phase"]): ScriptReport {
	return { name, phase, timedOut: false, durationMs: 0, outputTail: "" };
}

function stepsOf({ session, pre, post }: ApplicationScripts): Step[] {
	return [
		...(session === undefined ? [] : [{ phase: "session" as const, step: session }]),
		...(pre === undefined ? [] : [{ phase: "pre" as const, step: pre }]),
		...(post === undefined ? [] : [{ phase: "post" as const, step: post }]),
	];
}
