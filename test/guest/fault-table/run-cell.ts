/** One cell: aim, strike, let the machine come to rest, and look at everything that was promised. */
import { setTimeout as sleep } from "node:timers/promises";
import { findProcessIdentity, isSameProcessAlive } from "../../../platform/linux/process-identity.ts";
import { monotonicMs } from "../../fixtures/write-prober.ts";
import { aim, Missed } from "./aim.ts";
import { type Cell, holdLimitMs, nameOf, stallMs } from "./cells.ts";
import { checkCell } from "./check-cell.ts";
import { findPhaseAt, type Lane } from "./lane.ts";
import { rest } from "./rest.ts";
import type { TableMachine } from "./table-machine.ts";

export type CellOutcome = {
	readonly cell: Cell;
	/** The longest that a write took. */
	readonly longestWriteMs: number;
	/** Undefined: the job is done. */
	readonly code: string | undefined;
	/** Undefined: there is no report. */
	readonly level: string | undefined;
	/** From the strike until the controller had the report and the job had ended. */
	readonly endedAfterMs: number;
	readonly attempts: number;
	/** What was not as promised. */
	readonly faults: readonly string[];
};

const attempts = 6;
const unknown = { longestWriteMs: 0, code: undefined, level: undefined, endedAfterMs: 0 };

export async function runCell(lane: Lane<TableMachine>, cell: Cell): Promise<CellOutcome> {
	for (let attempt = 1; ; attempt += 1) {
		const jobId = `${nameOf(cell)}-${attempt}`;
		try {
			return { ...(await tryCell(lane, cell, jobId)), attempts: attempt };
		} catch (error) {
			await rest(lane, jobId).catch(() => undefined);
			if (!(error instanceof Missed) || attempt === attempts) {
				const why = String(error);
				return { ...unknown, cell, attempts: attempt, faults: [why] };
			}
		}
	}
}

async function tryCell(lane: Lane<TableMachine>, cell: Cell, jobId: string): Promise<Omit<CellOutcome, "attempts">> {
	const beganMs = monotonicMs();
	const aimed = await aim(lane, { ...cell, jobId, holdLimitMs });
	const identity = findProcessIdentity(aimed.pid);
	if (identity === undefined) throw new Missed(`process ${aimed.pid} was gone`);
	const struckAt = new Date();
	process.kill(aimed.pid, cell.fault === "killed" ? "SIGKILL" : "SIGSTOP");
	const struckMs = monotonicMs();
	await aimed[Symbol.asyncDispose]();
	const isService = cell.component === "agent" || cell.component === "controller";
	if (cell.fault === "stalled" || (cell.fault === "stopped" && isService)) await sleep(stallMs);
	if (cell.fault === "stalled" && isSameProcessAlive(identity)) process.kill(aimed.pid, "SIGCONT");
	if (cell.fault === "stopped" && isService) process.kill(aimed.pid, "SIGKILL");
	if (isService && cell.fault !== "stalled") {
		await (cell.component === "agent" ? lane.agent : lane.controller).exited;
	}
	await lane.restart();
	await aimed.freeQueue();
	const job = await rest(lane, jobId);
	const endedAfterMs = monotonicMs() - struckMs;
	// Whoever was stopped must have been ended by those who waited for it.
	const isLeft = !isService && isSameProcessAlive(identity) && cell.fault !== "stalled";
	if (isLeft) process.kill(aimed.pid, "SIGKILL");
	// An agent that was killed lost the last lines of its log: there only what was seen before the strike counts.
	const isKnown =
		cell.phase !== "queued" && cell.phase !== "reporting" && !(cell.component === "agent" && cell.fault !== "stalled");
	const hit = isKnown ? findPhaseAt(lane, jobId, struckAt) : cell.phase;
	if (hit !== cell.phase) throw new Missed(`${jobId} hit ${hit}`);
	const found = await checkCell(lane, { cell, job, jobId, sinceMs: beganMs });
	return {
		cell,
		longestWriteMs: found.longestWriteMs,
		code: job?.error?.code ?? job?.report?.error?.code,
		level: job?.report?.achieved ?? undefined,
		endedAfterMs,
		faults: [...(isLeft ? ["the stopped process was left"] : []), ...found.faults],
	};
}
