import type { ScriptReport } from "../../../contracts/report.ts";

/** A quarter of what one message to the host may be. */
const limitBytes = 1024 * 1024;

/**
 * The reports with the output of each cut, all alike, until they fit: a report that is too long for its channel would be
 * lost, and the job with it. One byte of output may take six in JSON.
 */
export function fitOutputs(reports: readonly ScriptReport[]): ScriptReport[] {
	let cut = [...reports];
	for (let keep = 2048; outputBytes(cut) > limitBytes && keep >= 1; keep = Math.floor(keep / 2)) {
		cut = cut.map((one) => ({ ...one, outputTail: one.outputTail.slice(-keep) }));
	}
	return cut;
}

function outputBytes(reports: readonly ScriptReport[]): number {
	return reports.reduce((sum, { outputTail }) => sum + Buffer.byteLength(JSON.stringify(outputTail)), 0);
}
