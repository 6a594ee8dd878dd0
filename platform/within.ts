import { StillpointError } from "../contracts/errors.ts";

/**
 * The outcome of `work`, or `deadline-passed` after `limitMs`, or the reason of `signal`. The work itself goes on:
 * whoever can end it must do that with the same signal.
 */
export async function within<T>(work: Promise<T>, limitMs: number, what: string, signal?: AbortSignal): Promise<T> {
	const ended = Promise.withResolvers<never>();
	const timer = setTimeout(
		() => ended.reject(new StillpointError("deadline-passed", `${what} took longer than ${limitMs} ms`)),
		limitMs,
	);
	const aborted = () => ended.reject(signal?.reason);
	signal?.addEventListener("abort", aborted, { once: true });
	if (signal?.aborted) aborted();
	try {
		return await Promise.race([work, ended.promise]);
	} finally {
		clearTimeout(timer);
		signal?.removeEventListener("abort", aborted);
	}
}
