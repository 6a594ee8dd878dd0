import { describe, expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import type { Because } from "../../contracts/report.ts";
import { untilAborted } from "../../extensions/vm-snapshot-linux/abort-reasons.ts";
import type { Verdict } from "../../extensions/vm-snapshot-linux/consistency-verdict.ts";
import { HoldAnswers } from "../../extensions/vm-snapshot-linux/hold-answers.ts";
import { judgeFailure } from "../../extensions/vm-snapshot-linux/judge-failure.ts";

describe("whether a verdict fails the job", () => {
	function verdict(achieved: Verdict["achieved"], held: Verdict["held"], ...because: Because[]): Verdict {
		return { achieved, held, because, disks: [] };
	}

	test("what is accepted does not", () => {
		expect(judgeFailure(verdict("crash", "crash", "freeze-failed"), "crash")).toBeUndefined();
		expect(judgeFailure(verdict("application", "application"), "application")).toBeUndefined();
	});

	test("no snapshot always does, whatever is accepted", () => {
		expect(judgeFailure(verdict("none", "application", "snapshot-not-taken"), "crash")?.code).toBe("snapshot-failed");
		expect(judgeFailure(verdict("none", "none"), "crash")?.code).toBe("level-unreachable");
	});

	test("where nobody tells of a snapshot, the hold counts", () => {
		expect(judgeFailure(verdict(null, "file-system"), "file-system")).toBeUndefined();
		expect(judgeFailure(verdict(null, "crash", "thawed-by-other"), "file-system")?.code).toBe("thawed-by-other");
	});

	test.each<[Because[], string]>([
		[["mapping-unproved"], "level-unreachable"],
		[["freeze-failed", "mapping-wrong"], "freeze-failed"],
		[["thawed-early"], "hold-expired"],
		[["script-failed", "script-hold-lost"], "script-hold-lost"],
		[["no-applications"], "level-unreachable"],
	])("%s gives the code %s", (because, code) => {
		expect(judgeFailure(verdict("crash", "crash", ...because), "file-system")?.code).toBe(code);
	});
});

describe("the answers of a hold", () => {
	const times = { startedAtMs: 1, endedAtMs: 2 };

	test("the first FITHAW that answered 0 stands, whoever comes later", () => {
		const answers = new HoldAnswers();
		answers.note({ type: "fileSystem", superblock: "7:1", result: "frozen", ...times });
		answers.noteThaw("7:1", { result: "thawed", startedAtMs: 5, endedAtMs: 6 });
		answers.note({ type: "fileSystem", superblock: "7:1", result: "not-frozen", startedAtMs: 7, endedAtMs: 8 });
		expect(answers.evidence(["7:1", "7:2"])).toMatchObject([
			{ freeze: { result: "frozen" }, thaw: { result: "thawed", startedAtMs: 5 } },
			{ superblock: "7:2" },
		]);
	});

	test("EINVAL after FIFREEZE's answer stays somebody else's thaw, though a later FITHAW meets a freeze", () => {
		const answers = new HoldAnswers();
		answers.note({ type: "fileSystem", superblock: "7:1", result: "frozen", ...times });
		answers.noteThaw("7:1", { result: "not-frozen", startedAtMs: 5, endedAtMs: 6 });
		answers.noteThaw("7:1", { result: "thawed", startedAtMs: 7, endedAtMs: 8 });
		expect(answers.evidence(["7:1"])).toMatchObject([{ thaw: { result: "not-frozen" } }]);
	});

	test("EINVAL while FIFREEZE was in flight is replaced by the answer of its thaw", () => {
		const answers = new HoldAnswers();
		answers.noteThaw("7:1", { result: "not-frozen", startedAtMs: 1, endedAtMs: 2 });
		answers.note({ type: "fileSystem", superblock: "7:1", result: "frozen", startedAtMs: 0, endedAtMs: 4 });
		answers.noteThaw("7:1", { result: "thawed", startedAtMs: 7, endedAtMs: 8 });
		expect(answers.evidence(["7:1"])).toMatchObject([{ thaw: { result: "thawed" } }]);
	});

	test("a failed FITHAW is replaced by a later answer, a state is no answer", () => {
		const answers = new HoldAnswers();
		answers.noteThaw("7:1", { result: "thaw-failed", ...times });
		answers.noteThaw("7:1", { result: "not-frozen", ...times });
		answers.note({ type: "fileSystem", superblock: "7:1", result: "freezing", ...times });
		expect(answers.evidence(["7:1"])).toMatchObject([{ thaw: { result: "not-frozen" } }]);
		expect(answers.freezes.size).toBe(0);
	});
});

test("waiting ends with the signal's reason, also when it was aborted before", async () => {
	const reason = new StillpointError("cancelled", "now");
	await expect(untilAborted(new Promise(() => undefined), AbortSignal.abort(reason))).rejects.toBe(reason);
	await expect(untilAborted(Promise.resolve(3), new AbortController().signal)).resolves.toBe(3);
	await expect(untilAborted(Promise.reject(reason), new AbortController().signal)).rejects.toBe(reason);
});
