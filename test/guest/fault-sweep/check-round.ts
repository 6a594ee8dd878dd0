/** What must be true after every round. Each check returns what is wrong, in words. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { isDeepStrictEqual } from "node:util";
import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import type { Level } from "../../../contracts/level.ts";
import { isBetter } from "../fault-table/cells.ts";
import { checkLabel } from "../fault-table/check-label.ts";
import { checkLeftovers, checkScripts, checkWriters } from "../fault-table/checks.ts";
import type { Lane } from "../fault-table/lane.ts";
import { holdLimitMs, promiseMs, type Struck, type SweepMachine } from "./scene.ts";

export type RoundLook = {
	readonly lane: Lane<SweepMachine>;
	readonly jobId: string;
	readonly job: ControllerJob | undefined;
	readonly struck: Struck;
	/** CLOCK_MONOTONIC in ms, before the order. */
	readonly sinceMs: number;
};

const databaseLimitMs = 10_000;

export async function checkRound(look: RoundLook): Promise<{ longestWriteMs: number; faults: string[] }> {
	const { lane, jobId, job, struck, sinceMs } = look;
	const limitMs = holdLimitMs + promiseMs + (struck.allowanceMs?.() ?? 0);
	const { longestWriteMs, faults } = await checkWriters(lane, sinceMs, limitMs, struck.exempt);
	return {
		longestWriteMs,
		faults: [
			...faults,
			...((await struck.check?.(job)) ?? []),
			...checkReport(look, struck.best?.() ?? "application"),
			...(await checkDelivered(lane, jobId, job)),
			...checkScripts(lane, jobId, job),
			...(await checkDatabase(lane)),
			...(await checkLabel(lane, job)),
			...(await checkLeftovers(lane, jobId)),
			...(struck.spoils === true ? [] : await lane.machine.checkShape()),
		],
	};
}

/** The agent answers for every job that it began; only the kernel makes one stuck. */
function checkReport({ job, struck }: RoundLook, best: Level): string[] {
	if (job === undefined) return ["the controller does not know the job"];
	const faults: string[] = [];
	if (job.state === "failed" && job.error === undefined) faults.push("the job failed without a word why");
	const { report } = job;
	if (struck.mayBeStuck !== true && [job.error?.code, report?.error?.code].includes("stuck"))
		faults.push("ended as stuck, and nothing was");
	for (const error of [job.error, report?.error])
		if (error?.code === "internal") faults.push(`an error that nobody thought of: ${error.message}`);
	if (report === undefined) return [...faults, "the report was lost"];
	if (report.because.includes("evidence-lost") && isBetter(report.held, "crash"))
		faults.push("evidence lost, and held");
	for (const level of [report.achieved ?? "none", job.level ?? "none"])
		if (isBetter(level, best)) faults.push(`said to be ${level}, can be ${best} at best`);
	return faults;
}

/** What the controller was told is what the agent keeps. */
async function checkDelivered(lane: Lane, jobId: string, job: ControllerJob | undefined): Promise<string[]> {
	// A job that was lowered went on under another name.
	const own = await lane.call("job.report", { jobId: job?.report?.jobId ?? jobId }).then(
		({ report }) => report,
		() => undefined,
	);
	return isDeepStrictEqual(own, job?.report) ? [] : ["agent and controller keep different reports"];
}

/** Once in effect: no report was turned away, and none made a second recovery point. Ends the controller. */
export async function checkStored(lane: Lane): Promise<string[]> {
	await lane.controller[Symbol.asyncDispose]();
	using database = new DatabaseSync(join(lane.controllerState, "controller.sqlite"), { readOnly: true });
	const rows = (query: string) => database.prepare(query).all();
	const twice = rows("select job_id as job from recovery_points group by job_id having count(*) > 1");
	const rejected = rows("select sequence from rejected_reports");
	return [
		...twice.map(({ job }) => `the controller keeps more than one recovery point of ${job}`),
		...rejected.map(({ sequence }) => `the controller turned report ${sequence} away`),
	];
}

/** Whatever held it has let go. */
async function checkDatabase({ database }: Lane): Promise<string[]> {
	if (database === undefined) return [];
	try {
		await database.longestMs(Number.NEGATIVE_INFINITY, databaseLimitMs);
		return [];
	} catch (error) {
		return [`the database is held: ${String(error)}`];
	}
}
