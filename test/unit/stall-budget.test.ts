import { expect, test } from "vitest";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import { orderSchema } from "../../contracts/order.ts";
import type { Clock } from "../../extensions/vm-snapshot-linux/clock.ts";
import type { Job } from "../../extensions/vm-snapshot-linux/job.ts";
import { JobRecord } from "../../extensions/vm-snapshot-linux/job-record.ts";
import type { JobPlan } from "../../extensions/vm-snapshot-linux/plan-job.ts";
import {
	predictStall,
	requireWithinBudget,
	waitForQuietMoment,
} from "../../extensions/vm-snapshot-linux/stall-budget.ts";

const forever = new AbortController().signal;

/** A job on one file system whose syncs take these times, the last one for ever. */
function jobWith(given: {
	budgetMs?: number;
	waitMs?: number;
	syncMs: number[];
	snapshotMs?: number;
	prepareMs?: number;
}) {
	const clock: Clock = { nowMs: () => performance.now(), utcNow: () => new Date() };
	const { budgetMs } = given;
	const order = orderSchema.parse({
		jobId: "job-1",
		level: "file-system",
		acceptLevel: "file-system",
		disks: "all",
		prepareLimitMs: given.prepareMs ?? 60_000,
		...(budgetMs === undefined ? {} : { stall: { budgetMs, waitMs: given.waitMs ?? 0 } }),
	});
	const request = { order, expedited: true, ...(budgetMs === undefined ? {} : { stallBudgetMs: budgetMs }) };
	const record = new JobRecord(request as SnapshotRequest, clock);
	record.plan = { targets: [{ superblock: "7:0", mountPoint: "/data", level: 0 }] } as unknown as JobPlan;
	record.predictedMs = given.snapshotMs;
	const syncs = [...given.syncMs];
	const told = { syncs: 0 };
	const sync = async () => {
		told.syncs += 1;
		record.addSync("7:0", (syncs.length > 1 ? syncs.shift() : syncs[0]) ?? 0);
	};
	return { job: { record, clock, host: { request } } as unknown as Job, sync, told };
}

const tooLong = { code: "stall-too-long", traits: expect.objectContaining({ retryable: true }) };

test("without a budget nothing is synced, waited for or refused", async () => {
	const { job, sync, told } = jobWith({ syncMs: [90_000] });
	await waitForQuietMoment(job, sync, forever);
	expect(told.syncs).toBe(0);
	expect(() => requireWithinBudget(job)).not.toThrow();
});

test("a quiet moment is taken at once", async () => {
	const { job, sync, told } = jobWith({ budgetMs: 200, waitMs: 3_600_000, syncMs: [1] });
	await waitForQuietMoment(job, sync, forever);
	expect(told.syncs).toBe(1);
});

test("a busy one is waited out, and the data synced again", async () => {
	const { job, sync, told } = jobWith({ budgetMs: 200, waitMs: 30_000, syncMs: [900, 1] });
	await waitForQuietMoment(job, sync, forever);
	expect(told.syncs).toBe(2);
});

test("an order that does not wait is refused at once, and told what takes how long", async () => {
	const { job, sync, told } = jobWith({ budgetMs: 200, syncMs: [900], snapshotMs: 50 });
	const error = await waitForQuietMoment(job, sync, forever).catch((thrown) => thrown);
	expect(error).toMatchObject(tooLong);
	expect(error.message).toMatch(
		/50 ms for the snapshot itself, the last sync of \/data took 900 ms.*allowed are 200 ms/,
	);
	expect(error.details).toMatchObject({ budgetMs: 200, snapshotMs: 50, syncMs: 900 });
	expect(told.syncs).toBe(1);
});

test("what the snapshot alone takes is not waited for, however long the order would wait", async () => {
	const { job, sync, told } = jobWith({ budgetMs: 200, waitMs: 3_600_000, syncMs: [1], snapshotMs: 250 });
	await expect(waitForQuietMoment(job, sync, forever)).rejects.toMatchObject(tooLong);
	expect(told.syncs).toBe(1);
});

test("no order waits longer than it may prepare", async () => {
	const { job, sync } = jobWith({ budgetMs: 200, waitMs: 3_600_000, syncMs: [900], prepareMs: 1_000 });
	await expect(waitForQuietMoment(job, sync, forever)).rejects.toMatchObject(tooLong);
});

test("a job that is cancelled while it waits ends", async () => {
	const ending = new AbortController();
	const { job, sync } = jobWith({ budgetMs: 200, waitMs: 3_600_000, syncMs: [900] });
	const waiting = waitForQuietMoment(job, sync, ending.signal);
	ending.abort(new Error("cancelled"));
	await expect(waiting).rejects.toThrow("cancelled");
});

test("right before the freeze the budget counts once more", () => {
	const { job } = jobWith({ budgetMs: 200, syncMs: [1] });
	job.record.addSync("7:0", 1);
	expect(() => requireWithinBudget(job)).not.toThrow();
	job.record.addSync("7:0", 500);
	expect(() => requireWithinBudget(job)).toThrow(/about 100\d ms/);
});

test("of several syncs the last one counts, and a job without a plan predicts nothing", () => {
	const { job } = jobWith({ syncMs: [] });
	job.record.addSync("7:0", 500);
	job.record.addSync("7:0", 2);
	expect(predictStall(job)).toBeLessThan(100);
	job.record.plan = undefined;
	expect(predictStall(job)).toBeUndefined();
});
