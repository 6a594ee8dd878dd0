import { randomUUID } from "node:crypto";
import type { ScriptReport } from "../../../contracts/report.ts";
import type { ScriptJob, ScriptOutcome, ScriptPhase, ScriptRecoveryPoint } from "../../../contracts/script-input.ts";
import type { ApplicationScripts, CheckTrust, ScriptStep } from "./application-scripts.ts";
import type { ScriptUser } from "./script-user.ts";

/** One script as it is run: with its retries, its user, and what its processes are known by. */
export type RunnableStep = {
	/** The application; stands in the report. */
	readonly name: string;
	readonly phase: ScriptReport["phase"];
	readonly dryRun?: boolean;
	readonly command: readonly string[];
	readonly deadlineMs: number;
	readonly retries?: number;
	readonly user?: ScriptUser;
	readonly ownerOnly?: boolean;
	readonly keepsProcesses?: boolean;
	/** See `newMark`. */
	readonly mark: string;
};

/** The same for all scripts of a job. */
export type ScriptContext = {
	readonly job: ScriptJob;
	readonly checkTrust: CheckTrust;
	/** Copies for users who could not read a script lie there for as long as it runs. */
	readonly runFolder: string;
};

/** `starting` before there is a process, then its id, and undefined when it has ended. */
export type OnRuns = (what: "starting" | number | undefined) => void;

/** What a post script is told. */
export type ScriptEnd = { readonly outcome: ScriptOutcome; readonly recoveryPoint?: ScriptRecoveryPoint };

/** Stands in the environment of all processes of an application in one job, so that they are found wherever they went. */
export const markVariable = "STILLPOINT_RUN";
export const phaseVariable = "STILLPOINT_PHASE";

export function newMark(): string {
	return randomUUID();
}

/** As the script is told. */
export function phaseOf({ phase, dryRun }: Pick<RunnableStep, "phase" | "dryRun">): ScriptPhase {
	return dryRun === true ? "dry-run" : phase;
}

export function runnableStep(
	scripts: Pick<ApplicationScripts, "application" | "ownerOnly" | "keepsProcesses">,
	phase: RunnableStep["phase"],
	step: ScriptStep,
	run: { mark: string; user: ScriptUser | undefined; outcome?: ScriptOutcome },
): RunnableStep {
	const isWithout = run.outcome === "no-snapshot" || run.outcome === "interrupted";
	const without = isWithout ? step.commandWithoutSnapshot : undefined;
	return {
		name: scripts.application,
		phase,
		command: without ?? step.command,
		deadlineMs: step.deadlineMs,
		retries: step.retries,
		ownerOnly: scripts.ownerOnly,
		keepsProcesses: scripts.keepsProcesses && phase === "pre",
		mark: run.mark,
		...(run.user === undefined ? {} : { user: run.user }),
	};
}
