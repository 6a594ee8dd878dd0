import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import { orderSchema } from "../../contracts/order.ts";
import { noOtherScripts } from "../../contracts/other-scripts.ts";
import { systemClock } from "../../extensions/vm-snapshot-linux/clock.ts";
import type { JobRecord } from "../../extensions/vm-snapshot-linux/job-record.ts";
import { startJob } from "../../extensions/vm-snapshot-linux/started-job.ts";

describe("the ledger of a job that ends", () => {
	let runFolder: string;
	beforeEach(async () => {
		runFolder = await mkdtemp(join(tmpdir(), "stillpoint-test-started-"));
	});
	afterEach(() => rm(runFolder, { recursive: true, force: true }));

	// A freezer that dies just then has not removed it; later it could meet somebody else's freeze.
	test.each<[string, Partial<JobRecord>, boolean]>([
		["goes when nothing was frozen", {}, false],
		["goes when all of it was shown to be thawed", { freezingAtMs: 1, thawedAt: new Date(0) }, false],
		["stays when something may be frozen", { freezingAtMs: 1 }, true],
	])("%s", async (_claim, learnt, isLeft) => {
		const started = startJob(request(), systemClock());
		const ledger = started.freezer?.ledgerPath("job-1") ?? "";
		await writeFile(ledger, "{}");
		Object.assign(started.record, learnt);
		await started[Symbol.asyncDispose]();
		expect(existsSync(ledger)).toBe(isLeft);
	});

	function request(): SnapshotRequest {
		return {
			schemaVersion: 1,
			order: orderSchema.parse({
				jobId: "job-1",
				level: "file-system",
				acceptLevel: "crash",
				disks: { include: ["none"] },
			}),
			holdLimitMs: 1_000,
			fileSystems: { include: [], exclude: [] },
			tempDisks: [],
			scriptsFolder: join(runFolder, "scripts.d"),
			otherScripts: noOtherScripts,
			runFolder,
			hostFolders: [],
			statusFile: join(runFolder, "status"),
			extension: { name: "test", version: "1.0" },
			channel: { socketPath: "", token: "" },
		};
	}
});
