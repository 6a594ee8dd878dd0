import { StillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import type { CheckTrust, DropIn } from "./read-drop-ins.ts";
import { runScript } from "./run-script.ts";
import { type SessionScript, startSessionScript } from "./session-script.ts";
import type { ScriptJob, ScriptOutcome } from "./start-script.ts";
import type { UndoEntry, UndoList, UndoStep } from "./undo-list.ts";

/** What the verdict is told of one application: `proved` only if every script of it ended well and a session held. */
export type ApplicationEvidence = { readonly name: string; readonly proved: boolean; readonly holdLost: boolean };

type Started = {
	readonly dropIn: DropIn;
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
	readonly #dropIns: readonly DropIn[];
	readonly #job: ScriptJob;
	readonly #checkTrust: CheckTrust;
	readonly #undoList: UndoList;
	readonly #started: Started[] = [];
	readonly #lost = new AbortController();
	#resumed: Promise<void> | undefined;

	constructor(dropIns: readonly DropIn[], job: ScriptJob, checkTrust: CheckTrust, undoList: UndoList) {
		this.#dropIns = dropIns;
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
		for (const dropIn of this.#dropIns) {
			signal.throwIfAborted();
			const started = await this.#start(dropIn, signal);
			signal.throwIfAborted();
			if (started.failure !== undefined && dropIn.onFailure === "fail") throw started.failure;
		}
	}

	/** Releases sessions and runs post scripts, in descending order, of all that was started. Never rejects. */
	resume(outcome: ScriptOutcome): Promise<void> {
		this.#resumed ??= this.#resumeAll(outcome);
		return this.#resumed;
	}

	/** After `resume`: the first failure of an application that says `fail`. */
	findFailure(): StillpointError | undefined {
		return this.#started.find((one) => one.failure !== undefined && one.dropIn.onFailure === "fail")?.failure;
	}

	/** What was never started is not proved. */
	evidence(): ApplicationEvidence[] {
		return this.#dropIns.map((dropIn) => {
			const started = this.#started.find((one) => one.dropIn === dropIn);
			return {
				name: dropIn.application,
				proved: started !== undefined && started.failure === undefined && this.#resumed !== undefined,
				holdLost: started?.holdLost === true,
			};
		});
	}

	async #start(dropIn: DropIn, signal: AbortSignal): Promise<Started> {
		const undo = this.#undoList.add(undoStepOf(dropIn));
		const options = { checkTrust: this.#checkTrust, signal, onRuns: undo.runs };
		if (dropIn.session !== undefined) {
			const session = await startSessionScript(stepOf(dropIn, dropIn.session), this.#job, options);
			const started: Started = { dropIn, session, undo };
			this.#started.push(started);
			if (session.failure !== undefined) started.failure = session.failure;
			else if (dropIn.onFailure === "fail") this.#watch(session);
			return started;
		}
		const started: Started = { dropIn, undo };
		this.#started.push(started);
		if (dropIn.pre === undefined) return started;
		const report = await runScript(stepOf(dropIn, dropIn.pre), "pre", this.#job, options);
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
			const { dropIn, session, undo } = started;
			if (session !== undefined) this.#record(started, await session.release(outcome));
			if (dropIn.post !== undefined) {
				const step = stepOf(dropIn, dropIn.post);
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

function undoStepOf({ application, session, pre, post }: DropIn): UndoStep {
	const deadlineMs = (session ?? pre ?? post)?.deadlineMs ?? 0;
	return {
		application,
		deadlineMs,
		...(session === undefined ? {} : { isSession: true }),
		...(post === undefined ? {} : { post }),
	};
}

function stepOf(dropIn: DropIn, step: { command: string[]; deadlineMs: number }) {
	return { name: dropIn.application, command: step.command, deadlineMs: step.deadlineMs };
}
