import type { StillpointError } from "../../contracts/errors.ts";

/** A timer that aborts with an error of the catalogue; disposing stops it. */
export function deadlineSignal(
	limitMs: number,
	error: () => StillpointError,
): Disposable & { readonly signal: AbortSignal } {
	const controller = new AbortController();
	const timer = setTimeout(() => controller.abort(error()), limitMs);
	return { signal: controller.signal, [Symbol.dispose]: () => clearTimeout(timer) };
}

/** The outcome of `work`, or the signal's reason. The work itself goes on. */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
	const ended = Promise.withResolvers<never>();
	const onAbort = () => ended.reject(signal.reason);
	signal.addEventListener("abort", onAbort, { once: true });
	if (signal.aborted) onAbort();
	// Who loses the race is still settled one day.
	work.catch(() => undefined);
	try {
		return await Promise.race([work, ended.promise]);
	} finally {
		signal.removeEventListener("abort", onAbort);
	}
}
