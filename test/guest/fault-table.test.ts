/**
 * Every process of a job is killed, stopped and stalled in every phase of the job: fault-table/cells.ts says which
 * cells there are, and why some can't be. Each cell is a real order of a real controller to a real agent.
 */
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { freeze, thaw } from "../fixtures/loop-file-system.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { monotonicMs } from "../fixtures/write-prober.ts";
import { allCells, type Cell, cellsToRun, holdLimitMs, nameOf, promiseMs, whyMissing } from "./fault-table/cells.ts";
import { checkCell } from "./fault-table/check-cell.ts";
import { runGoodJob } from "./fault-table/good-job.ts";
import type { Lane } from "./fault-table/lane.ts";
import { formatTable } from "./fault-table/print-table.ts";
import { type CellOutcome, runCell } from "./fault-table/run-cell.ts";
import { openTableLane, type TableMachine } from "./fault-table/table-machine.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze", "strace", "python3");
/** Machines side by side: most of a cell is waiting for deadlines. Other files run beside them. */
const laneCount = 7;

describe.skipIf(missing)(`whoever fails, and whenever${missing ? `: ${missing}` : ""}`, () => {
	test.concurrent("nothing stays frozen, nothing is lost, and no label is better than its image", async () => {
		await using undo = new AsyncDisposableStack();
		const opening = await Promise.allSettled(Array.from({ length: laneCount }, () => openTableLane()));
		const lanes = opening.flatMap((one) => (one.status === "fulfilled" ? [undo.use(one.value)] : []));
		expect(opening.filter(({ status }) => status === "rejected")).toEqual([]);
		const outcomes = await runAll(cellsToRun, lanes);
		process.stdout.write(`${formatTable(outcomes)}\n`);
		const wrong = outcomes.filter(({ faults }) => faults.length > 0);
		expect(wrong.map(({ cell, faults }) => `${nameOf(cell)}: ${faults.join("; ")}`)).toEqual([]);
		const accounted = [
			...outcomes.map(({ cell }) => cell),
			...allCells.filter((cell) => whyMissing(cell) !== undefined),
		];
		expect(accounted.map(nameOf).sort()).toEqual(allCells.map(nameOf).sort());
	}, 600_000);

	test.concurrent("the checks of a cell see what they are for (negative control)", async () => {
		await using lane = await openTableLane();
		const cell: Cell = { component: "controller", fault: "stalled", phase: "done" };
		const { jobId, job, sinceMs } = await runGoodJob(lane, holdLimitMs);
		const look = { cell, job, jobId, sinceMs };
		expect((await checkCell(lane, look)).faults).toEqual([]);

		const { controllerState } = lane;
		const { fileSystem, foreign } = lane.machine;
		const image = (await lane.client.readRecoveryPoint(job.recoveryPointId as string)).disks[0]?.image ?? "";
		copyFileSync(fileSystem.imagePath, join(controllerState, "recovery-points", job.recoveryPointId as string, image));
		await thaw(foreign.mountPoint);
		const undoFolder = join(lane.folders.flags.runDir, "undo");
		mkdirSync(undoFolder, { recursive: true });
		writeFileSync(join(undoFolder, "control.json"), "");
		const child = spawn("sleep", ["60"], { env: { ...process.env, STILLPOINT_JOB_ID: jobId } });
		await freeze(fileSystem.mountPoint);
		await sleep(holdLimitMs + promiseMs + 300);
		await thaw(fileSystem.mountPoint);
		const report =
			job.report === undefined ? undefined : { ...job.report, scripts: [], achieved: "file-system" as const };
		const noted = {
			...look,
			job: { ...job, report },
			cell: { ...cell, component: "script", fault: "killed" } as const,
		};
		const { faults } = await checkCell(lane, noted);
		child.kill("SIGKILL");
		rmSync(join(undoFolder, "control.json"));
		for (const word of [
			/nothing could be written for \d+ ms/,
			/a freeze of others was undone/,
			/said to be application, can be file-system at best/,
			/labelled above its report/,
			/still: needs recovery/,
			/process \d+ is left: sleep 60/,
			/undo\/control\.json is left/,
		])
			expect(faults.join("\n")).toMatch(word);
		const lost = { ...look, job: { ...job, report: undefined }, jobId: "other", sinceMs: monotonicMs() };
		expect((await checkCell(lane, lost)).faults).toContain("the report was lost");
		const stuck = { ...look, job: { ...job, error: { code: "stuck", message: "", retryable: true } as const } };
		expect((await checkCell(lane, stuck)).faults).toContain("ended as stuck, and nothing is frozen");
	}, 300_000);
});

async function runAll(cells: readonly Cell[], lanes: readonly Lane<TableMachine>[]): Promise<CellOutcome[]> {
	const waiting = [...cells];
	const outcomes: CellOutcome[] = [];
	await Promise.all(
		lanes.map(async (lane) => {
			for (let cell = waiting.shift(); cell !== undefined; cell = waiting.shift())
				outcomes.push(await runCell(lane, cell));
		}),
	);
	return outcomes;
}
