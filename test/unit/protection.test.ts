import { describe, expect, test } from "vitest";
import { judgeProtection } from "../../agent/protection.ts";
import type { JobSummary } from "../../contracts/local-calls.ts";
import { type Protection, protectionReasons, protectionSchema } from "../../contracts/protection.ts";

const hourMs = 3_600_000;
const nowMs = Date.parse("2026-11-20T12:00:00.000Z");
const at = (hoursAgo: number) => new Date(nowMs - hoursAgo * hourMs).toISOString();

/** A job so many hours ago; good unless it is changed. */
function job(hoursAgo: number, changes: Partial<JobSummary> = {}): JobSummary {
	const achieved = "file-system" as const;
	return {
		jobId: `j${hoursAgo}`,
		phase: "done",
		requested: "application",
		achieved,
		startedAt: at(hoursAgo),
		...changes,
	};
}
const failed = (hoursAgo: number, errorCode = "foreign-freeze") =>
	job(hoursAgo, { phase: "failed", achieved: "none", errorCode });

function judge(jobs: JobSummary[], more: Partial<Parameters<typeof judgeProtection>[0]> = {}): Protection {
	return protectionSchema.parse(
		judgeProtection({
			jobs,
			wanted: { level: "file-system", maxAgeMs: 26 * hourMs },
			link: { enrolled: false, connected: false },
			canSnapshot: true,
			nowMs,
			...more,
		}),
	);
}
const brief = ({ state, since, why }: Protection) => [state, since, why.map(({ code }) => code)];

describe("a machine is", () => {
	test.each<[string, Protection, unknown[]]>([
		["unprotected without any job", judge([]), ["unprotected", undefined, ["no-good-job"]]],
		[
			"unprotected when only failed jobs are known",
			judge([failed(1), failed(2)]),
			["unprotected", undefined, ["no-good-job", "last-job-failed"]],
		],
		[
			"unprotected from the moment when the last good one grew too old",
			judge([job(30)]),
			["unprotected", at(4), ["too-old"]],
		],
		["protected at the very end of the time", judge([job(26)]), ["protected", at(26), []]],
		[
			"protected for ever where no age is wanted",
			judge([job(3000)], { wanted: { level: "crash", maxAgeMs: null } }),
			["protected", at(3000), []],
		],
		[
			"protected since the first of a row of good jobs",
			judge([job(1), job(25), job(49), failed(73), job(97)]),
			["protected", at(49), []],
		],
		["protected since after a gap", judge([job(1), job(40), job(41)]), ["protected", at(1), []]],
		[
			"degraded since the first failure after a good job",
			judge([failed(1), failed(2), job(3)]),
			["degraded", at(2), ["last-job-failed"]],
		],
		[
			"degraded by a weaker one",
			judge([job(1, { achieved: "crash" }), job(3)]),
			["degraded", at(1), ["last-job-weak"]],
		],
		[
			"protected by a hold whose snapshot the asker took",
			judge([job(1, { achieved: null, held: "application" })]),
			["protected", at(1), []],
		],
		[
			"not protected by a hold that was worth too little",
			judge([job(1, { achieved: null, held: "crash" })]),
			["unprotected", undefined, ["no-good-job", "last-job-weak"]],
		],
		[
			"not touched by what was cancelled or still runs",
			judge([job(0, { phase: "frozen" }), failed(1, "cancelled"), job(2)]),
			["protected", at(2), []],
		],
		[
			"degraded while a job is stuck, before all else",
			judge([job(0, { phase: "stuck" }), job(2)], { canSnapshot: false }),
			["degraded", undefined, ["may-be-frozen", "no-snapshot-extension"]],
		],
		[
			"degraded without a link to its controller",
			judge([job(2)], { link: { enrolled: true, connected: false } }),
			["degraded", undefined, ["not-connected"]],
		],
		[
			"protected without a controller at all",
			judge([job(2)], { link: { enrolled: false, connected: false } }),
			["protected", at(2), []],
		],
	])("%s", (_what, found, expected) => {
		expect(brief(found)).toEqual(expected);
	});

	test("told what its last good recovery point is", () => {
		expect(judge([failed(1), job(2)]).lastGood).toEqual({ jobId: "j2", startedAt: at(2), level: "file-system" });
		expect(judge([failed(1)]).lastGood).toBeUndefined();
	});
});

test("every reason is given by some machine", () => {
	const all = [
		judge([job(0, { phase: "stuck" }), failed(1)], { canSnapshot: false, link: { enrolled: true, connected: false } }),
		judge([job(1, { achieved: "crash" }), job(30)]),
	];
	const given = new Set(all.flatMap(({ why }) => why.map(({ code }) => code)));
	expect(Object.keys(protectionReasons).filter((code) => !given.has(code as never))).toEqual([]);
});
