/** The figures of a report's window, from the answers of FIFREEZE and FITHAW: none better than what is known. */
import { expect, test } from "vitest";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import type { FreezeResult } from "../../contracts/freezer-protocol.ts";
import { orderSchema } from "../../contracts/order.ts";
import { buildReport } from "../../extensions/vm-snapshot-linux/build-report.ts";
import { judge } from "../../extensions/vm-snapshot-linux/consistency-verdict.ts";
import { JobRecord } from "../../extensions/vm-snapshot-linux/job-record.ts";

type Span = readonly [result: FreezeResult, startedAtMs: number, endedAtMs: number];

function windowAfter(answers: Record<string, { freeze?: Span; thaw?: Span }>) {
	const order = orderSchema.parse({ jobId: "job-1", level: "file-system", acceptLevel: "crash", disks: "all" });
	const request = { order, extension: { name: "Extension", version: "1.0" } } as SnapshotRequest;
	const record = new JobRecord(request, { nowMs: () => 0, utcNow: () => new Date(0) });
	record.freezingAtMs = 100;
	for (const [superblock, { freeze, thaw }] of Object.entries(answers)) {
		if (freeze !== undefined) record.answers.freezes.set(superblock, answerOf(freeze));
		if (thaw !== undefined) record.answers.thaws.set(superblock, answerOf(thaw));
	}
	return buildReport(record, judge(record.evidence()), undefined, 10_000).window;
}

function answerOf([result, startedAtMs, endedAtMs]: Span) {
	return { result, startedAtMs, endedAtMs };
}

const short = { freeze: ["frozen", 101, 105], thaw: ["thawed", 120, 121] } as const;

test("the stall is that of the file system that was stopped longest", () => {
	const longer = { freeze: ["frozen", 101, 103], thaw: ["thawed", 400, 401] } as const;
	expect(windowAfter({ short, longer })).toMatchObject({ heldMs: 15, stallMs: 300 });
});

test("a freeze whose answer was lost with the freezer stalled until its thaw, from the first freeze call on", () => {
	expect(windowAfter({ short, lost: { thaw: ["thawed", 5_000, 5_001] } })).toMatchObject({ stallMs: 4_901 });
});

test("what FITHAW refuses to thaw is stalled until then at least", () => {
	const refused = { freeze: ["frozen", 101, 103], thaw: ["thaw-failed", 3_000, 3_001] } as const;
	expect(windowAfter({ short, refused })).toMatchObject({ stallMs: 2_900 });
});

test("what somebody else holds frozen, or thawed, tells nothing of our stall (negative control)", () => {
	const foreign = { freeze: ["foreign", 101, 102] } as const;
	const thawed = { freeze: ["frozen", 101, 102], thaw: ["not-frozen", 900, 901] } as const;
	expect(windowAfter({ short, foreign, thawed })).toMatchObject({ stallMs: 20 });
});
