import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { StillpointError } from "../../contracts/errors.ts";
import { atLeast } from "../../contracts/level.ts";
import type { Report } from "../../contracts/report.ts";
import { type HandlerStatus, writeHandlerStatus } from "../kit/handler-status.ts";
import type { SnapshotHost } from "../kit/run-snapshot-command.ts";
import { buildReport } from "./build-report.ts";
import type { Verdict } from "./consistency-verdict.ts";
import type { JobRecord } from "./job-record.ts";

const sendLimitMs = 10_000;

/** Writes the report to tmpfs, sends it, and writes the status file. @throws when it could not be sent. */
export async function publishReport(
	host: SnapshotHost,
	given: { record: JobRecord; verdict: Verdict; error: StillpointError | undefined; nowMs: number },
): Promise<Report> {
	const { record, verdict, error, nowMs } = given;
	const { order, runFolder, statusFile } = host.request;
	const report = buildReport(record, verdict, error, nowMs);
	await writeReport(join(runFolder, "reports", `${order.jobId}.json`), report).catch(() => undefined);
	// Where the host is gone, the status file is what is left of the job: so it is written whatever the sending does.
	const sent = host.send({ type: "report", jobId: order.jobId, report }, sendLimitMs);
	const written = writeHandlerStatus(statusFile, statusOf(report, error), new Date()).catch(() => undefined);
	await Promise.allSettled([sent, written]);
	await sent;
	return report;
}

async function writeReport(path: string, report: Report): Promise<void> {
	await writeFile(`${path}.new`, JSON.stringify(report), { mode: 0o600 });
	await rename(`${path}.new`, path);
}

/** Codes of the Azure contract: 0 is success; ours are the exit statuses of the catalogue. */
function statusOf(report: Report, error: StillpointError | undefined): HandlerStatus {
	const reached = report.achieved ?? report.held;
	const weaker = !atLeast(reached, report.requested);
	const status = error !== undefined ? "error" : weaker ? "warning" : "success";
	const code = error?.traits.exit ?? (weaker ? 3 : 0);
	const message = error?.message ?? `snapshot ${report.jobId}: ${reached}`;
	return {
		name: report.extension.name,
		operation: "Snapshot",
		status,
		code,
		message,
		substatus: [{ name: "report", status, code, message: JSON.stringify(report) }],
	};
}
