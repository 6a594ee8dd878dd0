import type { Finding } from "../../contracts/check.ts";
import { asStillpointError } from "../../contracts/errors.ts";
import { within } from "../../platform/within.ts";

/** One part of the check: with a deadline, and never the end of the others. */
export async function findWithin(
	check: string,
	limitMs: number,
	work: () => Promise<readonly Finding[]>,
	signal: AbortSignal,
): Promise<readonly Finding[]> {
	try {
		return await within(work(), limitMs, check, signal);
	} catch (thrown) {
		if (signal.aborted) throw thrown;
		const { message, traits } = asStillpointError(thrown);
		return [{ check, status: "unknown", what: `could not be learnt: ${message}`, remedy: traits.remedy }];
	}
}
