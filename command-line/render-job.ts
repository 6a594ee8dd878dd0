import type { ControllerJob } from "../contracts/controller-messages.ts";
import type { Page } from "./layout.ts";
import { humanMs } from "./output.ts";
import { renderReport } from "./render-report.ts";

/** Where a job stands, in a line. */
export function renderStep({ state, error, endedAt }: ControllerJob): string {
	if (error === undefined || endedAt !== undefined) return state;
	return `${state}, ${error.code}: ${error.message}. ${error.remedy ?? ""}`.trimEnd();
}

/** A job of the controller as a page for people: how it stands, then its report. */
export function renderJob(job: ControllerJob, page: Page): string {
	const lines = [
		`Job ${job.jobId} of agent ${job.agentId}: ${job.state}`,
		...(job.recoveryPointId ? [`  recovery point ${job.recoveryPointId}, level ${job.level}`] : []),
		...(job.orderToFrozenMs === undefined ? [] : [`  order to frozen ${humanMs(job.orderToFrozenMs)}`]),
		...(job.error ? [`  error ${job.error.code}: ${job.error.message}`] : []),
	];
	return `${lines.join("\n")}\n${job.report ? `\n${renderReport(job.report, page)}` : ""}`;
}
