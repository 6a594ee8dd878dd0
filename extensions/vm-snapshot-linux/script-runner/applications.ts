import { StillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import type { ScriptJob, ScriptOutcome } from "../../../contracts/script-input.ts";
import type { ApplicationScripts, CheckTrust, ScriptStep } from "./application-scripts.ts";
import { runScript } from "./run-script.ts";
import { type SessionScript, startSessionScript } from "./session-script.ts";
import type { UndoEntry, UndoList, UndoStep } from "./undo-list.ts";

/** What the verdict is told of one application: `proved` only if every script of it ended well and a session held. */
export type ApplicationEvidence = { readonly name: string; readonly proved: boolean; readonly holdLost: boolean };

type Started = {
	readonly scripts: ApplicationScripts;
	readonly session?: SessionScript;
	readonly undo: UndoEntry;
	/** The first thing that went wrong. */
	failure?: StillpointError;
	holdLost?: boolean;
};

/**
 * The applications of a job: made quiet in order, let go in reverse. What was started is recorded before it starts, so
 * that `resume` finds it whatever happened.
 */
export class Applications {
	readonly reports: ScriptReport[] = [];
	readonly #applications: readonly ApplicationScripts[];
	readonly #job: ScriptJob;
	readonly #checkTrust: CheckTrust;
	readonly #undoList: UndoList;
	readonly #started: Started[] = [];
	readonly #lost = new AbortController();
	#resumed: Promise<void> | undefined;

	constructor(applications: readonly ApplicationScripts[], job: ScriptJob, checkTrust: CheckTrust, undoList: UndoList) {
		this.#applications = applications;
		this.#job = job;
		this.#checkTrust = checkTrust;
		this.#undoList = undoList;
	}

	/** Aborts when a session whose drop-in says `fail` lost its hold. */
	get lost(): AbortSignal {
		return this.#lost.signal;
	}

	/** Runs pre and session scripts in ascending order. Throws the first failure of one that says `fail`. */
	async quiet(signal: AbortSignal): Promise<void> {
		for (const scripts of this.#applications) {
			signal.throwIfAborted();
			const started = await this.#start(scripts, signal);
			signal.throwIfAborted();
			if (started.failure !== undefined && scripts.onFailure === "fail") throw started.failure;
		}
	}

	/** Releases sessions and runs post scripts, in descending order, of all that was started. Never rejects. */
	resume(outcome: ScriptOutcome): Promise<void> {
		this.#resumed ??= this.#resumeAll(outcome);
		return this.#resumed;
	}

	/** After `resume`: the first failure of an application that says `fail`. */
	findFailure(): StillpointError | undefined {
		return this.#started.find((one) => one.failure !== undefined && one.scripts.onFailure === "fail")?.failure;
	}

	/** What was never started is not proved. */
	evidence(): ApplicationEvidence[] {
		return this.#applications.map((scripts) => {
			const started = this.#started.find((one) => one.scripts === scripts);
			return {
				name: scripts.application,
				proved: started !== undefined && started.failure === undefined && this.#resumed !== undefined,
				holdLost: started?.holdLost === true,
			};
		});
	}

	async #start(scripts: ApplicationScripts, signal: AbortSignal): Promise<Started> {
		const undo = this.#undoList.add(undoStepOf(scripts));
		const options = { checkTrust: this.#checkTrust, signal, onRuns: undo.runs };
		if (scripts.session !== undefined) {
			const session = await startSessionScript(stepOf(scripts, scripts.session), this.#job, options);
			const started: Started = { scripts, session, undo };
			this.#started.push(started);
			if (session.failure !== undefined) started.failure = session.failure;
			else if (scripts.onFailure === "fail") this.#watch(session);
			return started;
		}
		const started: Started = { scripts, undo };
		this.#started.push(started);
		if (scripts.pre === undefined) return started;
		const report = await runScript(stepOf(scripts, scripts.pre), "pre", this.#job, options);
		this.#record(started, report);
		return started;
	}

	#watch(session: SessionScript): void {
		const tell = () => this.#lost.abort(session.lost.reason);
		if (session.lost.aborted) tell();
		else session.lost.addEventListener("abort", tell, { once: true });
	}

	async #resumeAll(outcome: ScriptOutcome): Promise<void> {
		for (const started of this.#started.toReversed()) {
			const { scripts, session, undo } = started;
			if (session !== undefined) this.#record(started, await session.release(outcome));
			if (scripts.post !== undefined) {
				const step = stepOf(scripts, scripts.post);
				const options = { checkTrust: this.#checkTrust, outcome, onRuns: undo.runs };
				this.#record(started, await runScript(step, "post", this.#job, options));
			}
			undo.remove();
		}
	}

	#record(started: Started, report: ScriptReport): void {
		this.reports.push(report);
		if (report.held === false) started.holdLost = true;
		if (report.error === undefined) return;
		started.failure ??= new StillpointError(report.error.code, report.error.message);
	}
}

function undoStepOf({ application, session, pre, post }: ApplicationScripts): UndoStep {
	const deadlineMs = (session ?? pre ?? post)?.deadlineMs ?? 0;
	return {
		application,
		deadlineMs,
		...(session === undefined ? {} : { isSession: true }),
		...(post === undefined ? {} : { post: { command: [...post.command], deadlineMs: post.deadlineMs } }),
	};
}

function stepOf(scripts: ApplicationScripts, step: ScriptStep) {
	return { name: scripts.application, command: step.command, deadlineMs: step.deadlineMs };
}
