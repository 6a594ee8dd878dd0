import { type ErrorCode, StillpointError } from "../contracts/errors.ts";

export type Deadline = Disposable & { readonly signal: AbortSignal };

/** A signal that is aborted with the code after the time, or with the reason of the first of `signals`. */
export function startDeadline(
	limitMs: number,
	waitedFor: string,
	signals: readonly AbortSignal[] = [],
	code: ErrorCode = "deadline-passed",
): Deadline {
	const own = new AbortController();
	const timer = setTimeout(() => {
		const what = `waited ${Math.round(limitMs)} ms for ${waitedFor}`;
		own.abort(new StillpointError(code, what, { details: { limitMs: Math.round(limitMs) } }));
	}, limitMs);
	return { signal: AbortSignal.any([own.signal, ...signals]), [Symbol.dispose]: () => clearTimeout(timer) };
}

/** What settles first: the work, or the signal with its reason. The work itself is not stopped by this. */
export async function raceSignal<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
	signal.throwIfAborted();
	const { promise, reject } = Promise.withResolvers<never>();
	const onAbort = () => reject(signal.reason);
	signal.addEventListener("abort", onAbort, { once: true });
	try {
		return await Promise.race([work, promise]);
	} finally {
		signal.removeEventListener("abort", onAbort);
	}
}
