import type { StillpointError } from "../contracts/errors.ts";
import type { Order } from "../contracts/order.ts";
import type { Report, ScriptReport } from "../contracts/report.ts";

/**
 * The report of a job whose extension left none. The evidence is lost with it, so a snapshot that the asker told of
 * is worth `crash` at best, and without one it is `none`.
 */
export function makeLostReport(given: {
	order: Order;
	extension: { name: string; version: string };
	/** RFC 3339, UTC. */
	startedAt: string;
	durationMs: number;
	error: StillpointError;
	/** The asker told of at least one snapshot that was taken. */
	snapshotTold: boolean;
	/** What was done by others in the place of the extension. */
	scripts?: readonly ScriptReport[];
}): Report {
	const { order, error } = given;
	const worth = given.snapshotTold ? "crash" : "none";
	return {
		schemaVersion: 1,
		jobId: order.jobId,
		requested: order.level,
		accepted: order.acceptLevel,
		achieved: worth,
		held: worth,
		because: ["evidence-lost"],
		startedAt: given.startedAt,
		durationMs: Math.max(0, given.durationMs),
		extension: given.extension,
		fileSystems: [],
		scripts: [...(given.scripts ?? [])],
		writers: [],
		disks: [],
		notCovered: [],
		error: { code: error.code, message: error.message, retryable: error.traits.retryable },
	};
}
