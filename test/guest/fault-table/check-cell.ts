/** What must be true after every cell. Each check returns what is wrong, in words. */
import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import { isMounted } from "../../fixtures/loop-file-system.ts";
import { bestLevel, type Cell, holdLimitMs, isBetter, promiseMs } from "./cells.ts";
import { checkLabel } from "./check-label.ts";
import { checkLeftovers, checkScripts, checkStillFrozen, checkWriters } from "./checks.ts";
import type { Lane } from "./lane.ts";
import type { TableMachine } from "./table-machine.ts";

type Look = {
	readonly cell: Cell;
	readonly jobId: string;
	readonly job: ControllerJob | undefined;
	/** CLOCK_MONOTONIC in ms, before the order. */
	readonly sinceMs: number;
};

export async function checkCell(
	lane: Lane<TableMachine>,
	look: Look,
): Promise<{ longestWriteMs: number; faults: string[] }> {
	const { jobId, job } = look;
	const { longestWriteMs, faults } = await checkWriters(lane, look.sinceMs, holdLimitMs + promiseMs);
	return {
		longestWriteMs,
		faults: [
			...faults,
			...(await checkOthers(lane.machine)),
			...checkReport(look),
			...checkScripts(lane, jobId, job),
			...(await checkLabel(lane, job)),
			...(await checkLeftovers(lane, jobId)),
		],
	};
}

async function checkOthers({ foreign }: TableMachine): Promise<string[]> {
	return (await isMounted(foreign.mountPoint)) ? checkStillFrozen(foreign.mountPoint) : ["a mount of others is gone"];
}

/** The agent answers for every job that it began, and the controller keeps one report of it. */
function checkReport({ cell, job }: Look): string[] {
	if (job === undefined) return ["the controller does not know the job"];
	const faults: string[] = [];
	if (job.state === "failed" && job.error === undefined) faults.push("the job failed without a word why");
	const { report } = job;
	if ([job.error?.code, report?.error?.code].includes("stuck")) faults.push("ended as stuck, and nothing is frozen");
	if (report === undefined) return cell.phase === "queued" ? faults : [...faults, "the report was lost"];
	if (report.because.includes("evidence-lost") && isBetter(report.held, "crash"))
		faults.push("evidence lost, and held");
	const best = bestLevel(cell);
	for (const level of [report.achieved ?? "none", job.level ?? "none"])
		if (isBetter(level, best)) faults.push(`said to be ${level}, can be ${best} at best`);
	return faults;
}
