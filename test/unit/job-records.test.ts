import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeJobRecords } from "../../agent/job-records.ts";
import { openJournal } from "../../agent/journal.ts";
import type { Log } from "../../agent/log.ts";
import { makeLostReport } from "../../agent/lost-report.ts";
import { makeWriteHold } from "../../agent/write-hold.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { orderSchema } from "../../contracts/order.ts";

const orderOf = (jobId: string) => orderSchema.parse({ jobId, level: "crash", acceptLevel: "crash", disks: "all" });
const jobOf = (jobId: string, phase: "running" | "done" = "done") => ({
	jobId,
	order: orderOf(jobId),
	asker: "local" as const,
	phase,
	createdAt: new Date(0).toISOString(),
});
const reportOf = (jobId: string) =>
	makeLostReport({
		order: orderOf(jobId),
		extension: { name: "X", version: "1" },
		startedAt: new Date(0).toISOString(),
		durationMs: 1,
		error: new StillpointError("interrupted", "x"),
		snapshotTold: false,
	});
const log = { warn: () => undefined, error: () => undefined } as unknown as Log;

let folder: string;
let path: string;
beforeEach(() => {
	folder = mkdtempSync("/dev/shm/stillpoint-test-records-");
	path = join(folder, "journal.db");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function records(keep: { jobs: number; reports: number; trimEvery: number }) {
	const journal = openJournal(path);
	const made = makeJobRecords({ journal, hold: makeWriteHold(), log, runDir: folder, keep });
	return { journal, records: made };
}

describe("what is kept of jobs", () => {
	test("the newest records and reports; ids for ever: none is run twice, also in a later life", async () => {
		{
			const { journal, records: first } = records({ jobs: 5, reports: 2, trimEvery: 3 });
			for (let index = 0; index < 20; index += 1) {
				await first.begin(orderOf(`job-${index}`), "local");
				first.end(`job-${index}`, reportOf(`job-${index}`));
				// At every moment of the trimming: in memory, in the table of jobs only, and in neither.
				for (let old = 0; old <= index; old += 1)
					await expect(first.begin(orderOf(`job-${old}`), "local")).rejects.toMatchObject({ code: "job-conflict" });
			}
			expect(first.list(100).map(({ jobId }) => jobId)).toEqual(["job-19", "job-18", "job-17", "job-16", "job-15"]);
			await first[Symbol.asyncDispose]();
			journal.trim({ jobs: 5, reports: 2 });
			expect(journal.readJobs(100).map(({ jobId }) => jobId)).toEqual([
				"job-19",
				"job-18",
				"job-17",
				"job-16",
				"job-15",
			]);
			expect(journal.readJobs(100).filter(({ report }) => report !== undefined)).toHaveLength(2);
			journal[Symbol.dispose]();
		}
		const { journal, records: second } = records({ jobs: 5, reports: 2, trimEvery: 3 });
		using _journal = journal;
		expect(second.find("job-3")).toBeUndefined();
		await expect(second.begin(orderOf("job-3"), "local")).rejects.toMatchObject({
			code: "job-conflict",
			message: expect.stringContaining("job-3"),
		});
		await second.begin(orderOf("job-20"), "local");
		expect(second.find("job-20")).toBeDefined();
		await second[Symbol.asyncDispose]();
	});

	test("a job that runs is not trimmed", () => {
		using journal = openJournal(path);
		journal.addJob(jobOf("old", "running"));
		for (let index = 0; index < 4; index += 1)
			journal.endJob({ ...jobOf(`job-${index}`), report: reportOf("x") }, undefined);
		journal.trim({ jobs: 2, reports: 1 });
		expect(journal.readJobs(10).map(({ jobId }) => jobId)).toEqual(["job-3", "job-2", "old"]);
	});

	test("a journal of the first format is brought up to date, and loses nothing", () => {
		{
			using journal = openJournal(path);
			for (let index = 0; index < 4; index += 1)
				journal.endJob({ ...jobOf(`job-${index}`), report: reportOf("x") }, undefined);
		}
		const database = new DatabaseSync(path);
		database.exec("DROP TABLE spent; PRAGMA user_version = 1");
		database.close();
		using journal = openJournal(path);
		expect(journal.readJobs(10)).toHaveLength(4);
		journal.trim({ jobs: 1, reports: 1 });
		expect(() => journal.addJob(jobOf("job-0"))).toThrow(expect.objectContaining({ code: "job-conflict" }));
	});
});
