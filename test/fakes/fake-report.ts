import type { ErrorCode } from "../../contracts/errors.ts";
import type { Level } from "../../contracts/level.ts";
import type { Order } from "../../contracts/order.ts";
import type { Report } from "../../contracts/report.ts";

export function makeFakeReport(
	order: Pick<Order, "jobId" | "level" | "acceptLevel">,
	achieved: Level | null,
	error?: { code: ErrorCode; message: string },
): Report {
	return {
		schemaVersion: 1,
		jobId: order.jobId,
		requested: order.level,
		accepted: order.acceptLevel,
		achieved,
		held: achieved ?? "file-system",
		because: [],
		startedAt: new Date().toISOString(),
		durationMs: 1,
		extension: { name: "Fake", version: "1.0" },
		fileSystems: [],
		scripts: [],
		writers: [],
		disks: [],
		notCovered: [],
		...(error === undefined ? {} : { error: { ...error, retryable: true } }),
	};
}
