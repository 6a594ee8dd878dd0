import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import type { ScriptJob, ScriptOutcome } from "../../../contracts/script-input.ts";
import type { CheckTrust } from "./application-scripts.ts";
import { endOrKill, exitFields, judgeExit, type NamedStep, scriptFailure } from "./run-script.ts";
import { checkScriptTrust } from "./script-trust.ts";
import { type RunningScript, startScript } from "./start-script.ts";

export type SessionScript = {
	/** Why it did not say `ready`; undefined when it did. */
	readonly failure: StillpointError | undefined;
	/** Aborts when it ends, or says `lost`, before it was released. */
	readonly lost: AbortSignal;
	/**
	 * Asks for the proof and lets go. Never rejects; the whole process tree is gone afterwards.
	 * Held is only what said `ready`, lived until now, answered `held` and ended with status 0, all in time.
	 */
	release(outcome: ScriptOutcome): Promise<ScriptReport>;
};

/** Starts a session script and waits for `ready`, its deadline or the signal. Never rejects; see `failure`. */
export async function startSessionScript(
	step: NamedStep,
	job: ScriptJob,
	options: { checkTrust: CheckTrust; signal?: AbortSignal; onRuns?: (pid: number | undefined) => void },
): Promise<SessionScript> {
	const startedAtMs = performance.now();
	try {
		options.signal?.throwIfAborted();
		await checkScriptTrust(step.command, options.checkTrust);
	} catch (error) {
		return neverStarted(step.name, asStillpointError(error), startedAtMs);
	}
	const script = await startScript(step.command, "session", job);
	options.onRuns?.(script.pid);
	const session = new Session(step, script);
	await session.waitForReady(options.signal);
	return session;
}

class Session implements SessionScript {
	failure: StillpointError | undefined;
	readonly #step: NamedStep;
	readonly #script: RunningScript;
	readonly #lost = new AbortController();
	readonly #ready = Promise.withResolvers<void>();
	readonly #report: ScriptReport;
	#answer: "held" | "lost" | undefined;
	#wasReady = false;
	#released = false;
	#lostReason: string | undefined;

	constructor(step: NamedStep, script: RunningScript) {
		this.#step = step;
		this.#script = script;
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
		if (this.#wasReady && !killed) return;
		const exit = await this.#script.ended;
		const timedOut = killed && signal?.aborted !== true;
		this.#report.timedOut = timedOut;
		this.failure =
			judgeExit(this.#step.name, "session", exit, { timedOut, killed, deadlineMs: this.#step.deadlineMs }) ??
			new StillpointError("script-failed", `session script of ${this.#step.name}: ended without saying ready`);
		this.#lose("it was never ready");
	}

	async release(outcome: ScriptOutcome): Promise<ScriptReport> {
		this.#released = true;
		this.#script.write(`release ${outcome}\n`);
		const deadline = AbortSignal.timeout(this.#step.deadlineMs);
		const killed = await endOrKill(this.#script, deadline);
		const exit = await this.#script.ended;
		const held = this.#answer === "held" && this.#lostReason === undefined && exit.exitCode === 0 && !killed;
		const error = this.failure ?? (held ? undefined : this.#whyNotHeld(killed, exit));
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
		const what = `session script of ${this.#step.name}`;
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
			this.#lose(line.slice("lost ".length) || "it gave no reason");
		}
	}

	#lose(reason: string): void {
		this.#lostReason ??= reason;
		this.#lost.abort(new StillpointError("script-hold-lost", `session script of ${this.#step.name}: ${reason}`));
	}

	async #kill(): Promise<void> {
		await this.#script.kill();
	}
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
