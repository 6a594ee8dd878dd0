import { type ErrorCode, StillpointError } from "../../../contracts/errors.ts";
import type { ScriptExit } from "./start-script.ts";

export function judgeExit(
	what: string,
	exit: ScriptExit,
	end: { timedOut: boolean; killed: boolean; deadlineMs: number; signal?: AbortSignal | undefined },
): StillpointError | undefined {
	if (exit.spawnError !== undefined) return new StillpointError("script-failed", `${what}: ${exit.spawnError}`);
	if (end.timedOut) return new StillpointError("script-timeout", `${what}: no end after ${end.deadlineMs} ms`);
	if (end.killed) return new StillpointError("script-failed", `${what}: ended with the job: ${whyEnded(end.signal)}`);
	if (exit.exitCode === 0) return undefined;
	const how = exit.exitCode === undefined ? `ended by ${exit.signal ?? "?"}` : `exit status ${exit.exitCode}`;
	return new StillpointError("script-failed", `${what}: ${how}`);
}

function whyEnded(signal: AbortSignal | undefined): string {
	const { reason } = signal ?? {};
	return reason instanceof Error ? reason.message : "it was cancelled";
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

/** Whether it had to be killed. */
export async function endOrKill(
	script: { ended: Promise<unknown>; kill(): Promise<void> },
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
