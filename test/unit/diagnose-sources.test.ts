import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openJournal } from "../../agent/journal.ts";
import { readKnownSecrets } from "../../command-line/diagnose/known-secrets.ts";
import { readJournal } from "../../command-line/diagnose/read-journal.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";

let folder: string;
beforeEach(() => {
	folder = mkdtempSync("/dev/shm/stillpoint-test-diagnose-");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("secrets of a machine are known also beside a document that nests deeper than any call may", async () => {
	mkdirSync(join(folder, "state"));
	const deep = `${'{"a":['.repeat(20_000)}1${"]}".repeat(20_000)}`;
	writeFileSync(join(folder, "state/deep.json"), deep);
	writeFileSync(
		join(folder, "state/odd.json"),
		'[{"toString":1},"x",["--token","known-token"],{"password":{"deep":["hidden-deep"]}}]',
	);
	const configFile = join(folder, "agent.json");
	const found = await readKnownSecrets({ stateDir: join(folder, "state"), configFile, environment: {} });
	expect(found).toEqual(["hidden-deep", "known-token"]);
});

test("a damaged report is shown as it is, and the others beside it", () => {
	const order = { jobId: "a", level: "crash", acceptLevel: "crash" } as const;
	{
		using journal = openJournal(join(folder, "journal.db"));
		for (const jobId of ["a", "b"])
			journal.endJob(
				{
					jobId,
					order: { ...order, jobId } as never,
					asker: "local",
					phase: "done",
					createdAt: new Date().toISOString(),
					report: makeFakeReport({ ...order, jobId }, "crash"),
				},
				undefined,
			);
	}
	using database = new DatabaseSync(join(folder, "journal.db"));
	database.exec(`UPDATE jobs SET report = '{"half' WHERE jobId = 'a'`);
	expect(readJournal(folder).reports).toMatchObject([
		{ jobId: "b", report: { jobId: "b" } },
		{ jobId: "a", report: '{"half' },
	]);
});
