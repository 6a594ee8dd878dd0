import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import type { ScriptOutcome, ScriptRecoveryPoint } from "../../../contracts/script-input.ts";
import type { ApplicationScripts, ScriptStep } from "./application-scripts.ts";
import { scriptFailure } from "./judge-exit.ts";
import { runScript } from "./run-script.ts";
import { newMark, runnableStep, type ScriptContext } from "./script-step.ts";
import { findScriptUser, type ScriptUser } from "./script-user.ts";
import { type SessionScript, startSessionScript } from "./session-script.ts";
import type { UndoEntry, UndoList, UndoStep } from "./undo-list.ts";

/**
 * What the verdict is told of one application: `proved` only if every script of it ended well and a session held;
 * `bad` as soon as one did not.
 */
export type ApplicationEvidence = {
	readonly name: string;
	readonly proved: boolean;
	readonly holdLost: boolean;
	readonly bad?: boolean;
};

type Started = {
	readonly scripts: ApplicationScripts;
	readonly mark: string;
	readonly user: ScriptUser | undefined;
	readonly undo: UndoEntry;
	session?: SessionScript;
	/** Ends what its pre left running. */
	letGo?: () => Promise<void>;
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
	readonly #context: ScriptContext;
	readonly #undoList: UndoList;
	readonly #users = new Map<string, ScriptUser | StillpointError>();
	/** Their user does not exist. */
	readonly #refused = new Set<ApplicationScripts>();
	readonly #started: Started[] = [];
	readonly #lost = new AbortController();
	#resumed: Promise<void> | undefined;

	constructor(applications: readonly ApplicationScripts[], context: ScriptContext, undoList: UndoList) {
		this.#applications = applications;
		this.#context = context;
		this.#undoList = undoList;
	}

	/** Aborts when a session whose drop-in says `fail` lost its hold. */
	get lost(): AbortSignal {
		return this.#lost.signal;
	}

	/** Runs pre and session scripts in ascending order. Throws the first failure of one that says `fail`. */
	async quiet(signal: AbortSignal): Promise<void> {
		await this.#findUsers();
		for (const scripts of this.#applications) {
			signal.throwIfAborted();
			const failure = await this.#start(scripts, signal);
			signal.throwIfAborted();
			if (failure !== undefined && scripts.onFailure === "fail") throw failure;
		}
	}

	/** Releases sessions and runs post scripts, in descending order, of all that was started. Never rejects. */
	resume(outcome: ScriptOutcome, recoveryPoint?: ScriptRecoveryPoint): Promise<void> {
		this.#resumed ??= this.#resumeAll(outcome, recoveryPoint);
		return this.#resumed;
	}

	/** After `resume`: the first failure of an application that says `fail`. */
	findFailure(): StillpointError | undefined {
		return this.#started.find((one) => one.failure !== undefined && one.scripts.onFailure === "fail")?.failure;
	}

	/** What was never started is not proved; of what has only a post nothing was ever quiet, unless that failed. */
	evidence(): ApplicationEvidence[] {
		return this.#applications.flatMap((scripts) => {
			const started = this.#started.find((one) => one.scripts === scripts);
			const holdLost = started?.holdLost === true || isLost(started?.session);
			const bad = holdLost || started?.failure !== undefined || this.#refused.has(scripts);
			if (!bad && scripts.session === undefined && scripts.pre === undefined) return [];
			return {
				name: scripts.application,
				proved: !bad && started !== undefined && this.#resumed !== undefined,
				holdLost,
				...(bad ? { bad } : {}),
			};
		});
	}

	/** All of them before the first script starts. @throws of an application that says `fail` */
	async #findUsers(): Promise<void> {
		for (const { runAs, application, onFailure } of this.#applications) {
			if (runAs === undefined) continue;
			const found = this.#users.get(runAs) ?? (await findScriptUser(runAs).catch(asStillpointError));
			this.#users.set(runAs, found);
			if (found instanceof StillpointError && onFailure === "fail") {
				throw new StillpointError(found.code, `${application}: ${found.message}`, { cause: found });
			}
		}
	}

	async #start(scripts: ApplicationScripts, signal: AbortSignal): Promise<StillpointError | undefined> {
		const user = scripts.runAs === undefined ? undefined : this.#users.get(scripts.runAs);
		if (user instanceof StillpointError) {
			this.reports.push(refusal(scripts, user));
			this.#refused.add(scripts);
			return user;
		}
		const mark = newMark();
		const undo = this.#undoList.add(undoStepOf(scripts, mark));
		const started: Started = { scripts, undo, mark, user };
		this.#started.push(started);
		if (scripts.session !== undefined) await this.#startSession(started, scripts.session, signal);
		else if (scripts.pre !== undefined) {
			const options = {
				signal,
				onRuns: undo.runs("pre"),
				onKept: (letGo: () => Promise<void>) => {
					undo.keeps();
					started.letGo = letGo;
				},
			};
			const step = runnableStep(scripts, "pre", scripts.pre, { mark, user });
			this.#record(started, await runScript(step, this.#context, options));
		}
		return started.failure;
	}

	async #startSession(started: Started, given: NonNullable<ApplicationScripts["session"]>, signal: AbortSignal) {
		const { scripts, mark, user, undo } = started;
		const step = runnableStep(scripts, "session", given, { mark, user });
		const options = { signal, onRuns: undo.runs("session") };
		const session = await startSessionScript(step, this.#context, options);
		started.session = session;
		if (session.failure !== undefined) started.failure = session.failure;
		else if (scripts.onFailure === "fail") this.#watch(session);
	}

	#watch(session: SessionScript): void {
		const tell = () => this.#lost.abort(session.lost.reason);
		if (session.lost.aborted) tell();
		else session.lost.addEventListener("abort", tell, { once: true });
	}

	async #resumeAll(outcome: ScriptOutcome, recoveryPoint: ScriptRecoveryPoint | undefined): Promise<void> {
		const end = { outcome, ...(recoveryPoint === undefined ? {} : { recoveryPoint }) };
		for (const started of this.#started.toReversed()) {
			const { scripts, session, undo, mark, user } = started;
			if (session !== undefined) this.#record(started, await releaseOf(session, outcome));
			if (scripts.post !== undefined) {
				const step = runnableStep(scripts, "post", scripts.post, { mark, user, outcome });
				const options = { end, onRuns: undo.runs("post") };
				this.#record(started, await runScript(step, this.#context, options));
			}
			await started.letGo?.();
			undo.remove();
		}
	}

	#record(started: Started, report: ScriptReport): void {
		this.reports.push({ ...report, source: started.scripts.source });
		if (report.held === false) started.holdLost = true;
		if (report.error === undefined) return;
		started.failure ??= new StillpointError(report.error.code, report.error.message);
	}
}

/** What was never ready lost no hold. */
async function releaseOf(session: SessionScript, outcome: ScriptOutcome): Promise<ScriptReport> {
	const { held, ...report } = await session.release(outcome);
	return session.failure !== undefined || held === undefined ? report : { ...report, held };
}

/** It was ready, and holds no more. */
function isLost(session: SessionScript | undefined): boolean {
	return session?.failure === undefined && session?.lost.aborted === true;
}

/** Nothing of it was started. */
function refusal({ application: name, source, session }: ApplicationScripts, failure: StillpointError): ScriptReport {
	const phase = session === undefined ? "pre" : "session";
	return { name, source, phase, timedOut: false, durationMs: 0, outputTail: "", error: scriptFailure(failure) };
}

function undoStepOf({ session, pre, post, runAs, ...scripts }: ApplicationScripts, mark: string): UndoStep {
	return {
		application: scripts.application,
		mark,
		deadlineMs: (session ?? pre ?? post)?.deadlineMs ?? 0,
		...(session === undefined ? {} : { isSession: true }),
		...(runAs === undefined ? {} : { runAs }),
		...(scripts.ownerOnly ? { ownerOnly: true } : {}),
		...(post === undefined ? {} : { post: undoPostOf(post) }),
	};
}

function undoPostOf({ command, commandWithoutSnapshot, deadlineMs, retries }: ScriptStep): UndoStep["post"] {
	const without = commandWithoutSnapshot === undefined ? {} : { commandWithoutSnapshot: [...commandWithoutSnapshot] };
	return { command: [...command], deadlineMs, retries, ...without };
}
