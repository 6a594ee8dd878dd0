import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import type { ScriptOutcome } from "../../../contracts/script-input.ts";
import { endOrKill, exitFields, judgeExit, scriptFailure } from "./judge-exit.ts";
import { type Launch, prepareLaunchWithin } from "./launch-script.ts";
import { findChange } from "./run-script.ts";
import type { OnRuns, RunnableStep, ScriptContext } from "./script-step.ts";
import { type RunningScript, startScript } from "./start-script.ts";

export type SessionScript = {
	/** Why it did not say `ready`; undefined when it did. */
	readonly failure: StillpointError | undefined;
	/** Aborts when it ends, or says `lost`, before it was released. */
	readonly lost: AbortSignal;
	/**
	 * Asks for the proof and lets go. Never rejects. Held is only what said `ready`, lived until now, answered `held` and
	 * ended with status 0, all in time, and is still the script that was checked.
	 */
	release(outcome: ScriptOutcome): Promise<ScriptReport>;
};

const reasonLimit = 1000;

/** Starts a session script and waits for `ready`, its deadline or the signal. Never rejects; see `failure`. */
export async function startSessionScript(
	step: RunnableStep,
	context: ScriptContext,
	options: { signal?: AbortSignal; onRuns?: OnRuns } = {},
): Promise<SessionScript> {
	const startedAtMs = performance.now();
	let launch: Launch;
	try {
		options.signal?.throwIfAborted();
		launch = await prepareLaunchWithin(step, context, options.signal);
	} catch (error) {
		return neverStarted(step.name, asStillpointError(error), startedAtMs);
	}
	options.onRuns?.("starting");
	const script = startScript(launch, step, context.job);
	options.onRuns?.(script.pid);
	const session = new Session(step, script, launch);
	await session.waitForReady(options.signal);
	return session;
}

class Session implements SessionScript {
	failure: StillpointError | undefined;
	readonly #step: RunnableStep;
	readonly #script: RunningScript;
	readonly #launch: Launch;
	readonly #lost = new AbortController();
	readonly #ready = Promise.withResolvers<void>();
	readonly #report: ScriptReport;
	#answer: "held" | "lost" | undefined;
	#wasReady = false;
	#released = false;
	#lostReason: string | undefined;

	constructor(step: RunnableStep, script: RunningScript, launch: Launch) {
		this.#step = step;
		this.#script = script;
		this.#launch = launch;
		this.#report = { name: step.name, phase: "session", timedOut: false, held: false, durationMs: 0, outputTail: "" };
		script.onLine((line) => this.#read(line));
		void script.ended.then(() => {
			if (!this.#released) this.#lose("it ended before it was released");
			this.#ready.resolve();
		});
	}

	get lost(): AbortSignal {
		return this.#lost.signal;
	}

	async waitForReady(signal?: AbortSignal): Promise<void> {
		const deadline = AbortSignal.timeout(this.#step.deadlineMs);
		const stop = signal === undefined ? deadline : AbortSignal.any([deadline, signal]);
		const ready = { ended: this.#ready.promise.then(() => ({})), kill: () => this.#kill() };
		const killed = await endOrKill(ready, stop);
		const changed = await findChange(this.#launch);
		if (this.#wasReady && !killed && changed === undefined) return;
		if (changed !== undefined) await this.#kill();
		const exit = await this.#script.ended;
		await this.#launch[Symbol.asyncDispose]();
		const timedOut = killed && signal?.aborted !== true;
		this.#report.timedOut = timedOut;
		this.failure =
			changed ??
			judgeExit(this.#what, exit, { timedOut, killed, deadlineMs: this.#step.deadlineMs, signal }) ??
			new StillpointError("script-failed", `${this.#what}: ended without saying ready`);
		this.#lose("it was never ready");
	}

	async release(outcome: ScriptOutcome): Promise<ScriptReport> {
		this.#released = true;
		this.#script.write(`release ${outcome}\n`);
		const deadline = AbortSignal.timeout(this.#step.deadlineMs);
		const killed = await endOrKill(this.#script, deadline);
		const exit = await this.#script.ended;
		const changed = this.failure === undefined ? await findChange(this.#launch) : undefined;
		await this.#launch[Symbol.asyncDispose]();
		const proved = this.#answer === "held" && this.#lostReason === undefined && exit.exitCode === 0 && !killed;
		const held = proved && changed === undefined;
		const error = this.failure ?? changed ?? (held ? undefined : this.#whyNotHeld(killed, exit));
		return {
			...this.#report,
			...exitFields(exit),
			timedOut: this.#report.timedOut || killed,
			held,
			durationMs: performance.now() - this.#script.startedAtMs,
			outputTail: this.#script.tail(),
			...(error === undefined ? {} : { error: scriptFailure(error) }),
		};
	}

	#whyNotHeld(killed: boolean, exit: { exitCode?: number; signal?: string }): StillpointError {
		const what = this.#what;
		if (this.#lostReason !== undefined) return new StillpointError("script-hold-lost", `${what}: ${this.#lostReason}`);
		if (killed) return new StillpointError("script-timeout", `${what}: no end after release`);
		if (this.#answer === undefined) return new StillpointError("script-hold-lost", `${what}: it proved nothing`);
		return new StillpointError("script-failed", `${what}: exit status ${exit.exitCode ?? exit.signal ?? "?"}`);
	}

	#read(line: string): void {
		if (line === "ready" && !this.#released) {
			this.#wasReady = true;
			this.#ready.resolve();
		} else if (line === "held") {
			if (this.#released) this.#answer ??= "held";
			else this.#lose("it said held before it was asked");
		} else if (line === "lost" || line.startsWith("lost ")) {
			this.#answer = "lost";
			this.#lose(shortened(line.slice("lost ".length)) || "it gave no reason");
		}
	}

	get #what(): string {
		return `session script of ${this.#step.name}`;
	}

	#lose(reason: string): void {
		this.#lostReason ??= reason;
		this.#lost.abort(new StillpointError("script-hold-lost", `${this.#what}: ${reason}`));
	}

	async #kill(): Promise<void> {
		await this.#script.kill();
	}
}

/** It stands in an error, which is no place for more than a paragraph. */
function shortened(reason: string): string {
	return reason.length > reasonLimit ? `${reason.slice(0, reasonLimit)}…` : reason;
}

function neverStarted(name: string, failure: StillpointError, startedAtMs: number): SessionScript {
	const lost = AbortSignal.abort(failure);
	const durationMs = performance.now() - startedAtMs;
	const report: ScriptReport = {
		name,
		phase: "session",
		timedOut: false,
		held: false,
		durationMs,
		outputTail: "",
		error: scriptFailure(failure),
	};
	return { failure, lost, release: () => Promise.resolve(report) };
}
