import { expect, test } from "vitest";
import { guardFinding } from "../../command-line/check/guard-finding.ts";

test("check is content with a guard that runs, and says what it means when none does, or when it is stopped", () => {
	const since = "2026-01-01T00:00:00.000Z";
	expect(guardFinding({ pid: 7, since, stopped: false })).toMatchObject({ check: "guard", status: "ok" });
	expect(guardFinding(undefined)).toMatchObject({
		status: "warn",
		what: "no guard is running",
		remedy: expect.stringContaining("stillpoint guard run"),
	});
	expect(guardFinding({ pid: 7, since, stopped: true })).toMatchObject({
		status: "warn",
		remedy: expect.stringContaining("kill -CONT 7"),
	});
});
