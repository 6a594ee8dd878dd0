/** The pages of status and report on a terminal of 80 by 24. */
import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { type Page, widthOf } from "../../command-line/layout.ts";
import { renderReport } from "../../command-line/render-report.ts";
import { renderScriptChecks, renderScripts } from "../../command-line/render-scripts.ts";
import { renderStatus } from "../../command-line/render-status.ts";
import type { AgentStatus, JobSummary } from "../../contracts/local-calls.ts";
import type { Report } from "../../contracts/report.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";

const page: Page = { columns: 80, hasColor: true };
const nowMs = Date.parse("2026-11-20T12:00:00.000Z");
const jobId = "0f8fad5b-d9cb-469f-a165-70867728950e";

function screen(text: string): string[] {
	const lines = stripVTControlCharacters(text.trimEnd()).split("\n");
	expect(lines.filter((line) => widthOf(line) > 80)).toEqual([]);
	return lines;
}

const worst: JobSummary = {
	jobId,
	phase: "failed",
	requested: "application",
	achieved: "none",
	startedAt: "2026-11-20T11:00:00.000Z",
	errorCode: "recovery-point-invalid",
};
const status: AgentStatus = {
	schemaVersion: 1,
	version: "0.1.0",
	pid: 1_234_567,
	hostname: "a-machine-with-a-long-name.subdomain.example.com",
	startedAt: "2026-11-19T11:00:00.000Z",
	link: {
		enrolled: true,
		connected: false,
		controller: "https://backup-controller.example.com:7443",
		agentId: "agent-0f8fad5b-d9cb-469f",
		unsentReports: 3,
		error: {
			code: "clock-wrong",
			message: "the certificate is valid from 2026-11-21T00:00:00.000Z; the time here is 2026-11-20T12:00:00.000Z",
			remedy: "Set the clock that is wrong; the message names both times.",
		},
	},
	extensions: [{ name: "VMSnapshotLinux", version: "0.1.0", state: "Enabled" }],
	frozen: [{ mountPoint: "/srv/\u001b[2Jdata", state: "frozen" }],
	lastJobs: Array.from({ length: 10 }, () => worst),
	protection: {
		state: "degraded",
		since: "2026-11-20T10:00:00.000Z",
		why: [
			{ code: "last-job-failed", detail: "recovery-point-invalid" },
			{ code: "not-connected", detail: "clock-wrong" },
		],
		lastGood: { jobId, startedAt: "2026-11-19T11:00:00.000Z", level: "file-system" },
		wanted: { level: "file-system", maxAgeMs: 93_600_000 },
	},
};

test("status of a machine in trouble is one screen, and begins with what matters", () => {
	const lines = screen(renderStatus(status, page, nowMs));
	expect(lines.length).toBeLessThanOrEqual(24);
	expect(lines[0]).toBe("DEGRADED since 2026-11-20 10:00:00Z, 2 h ago");
	const text = lines.join("\n");
	expect(text).toMatch(/FROZEN +\/srv\/\\u\{1b\}\[2Jdata \(frozen\)/);
	expect(text).toMatch(/last good +file-system, 2026-11-19 11:00:00Z, 25 h ago/);
	expect(lines.filter((line) => line.endsWith(jobId))).toHaveLength(5);
});

const report: Report = {
	...makeFakeReport({ jobId, level: "application", acceptLevel: "crash" }, "crash"),
	because: ["excluded-by-config"],
	window: { freezeMs: 12, heldMs: 100.4, thawMs: 5, skewMs: 3, predictedMs: 80 },
	fileSystems: [
		{
			mountPoint: "/srv/databases/postgresql/15/main",
			device: "/dev/vdb1",
			superblock: "254:17",
			fsType: "ext4",
			disks: ["vdb"],
			level: 0,
			result: "thawed",
			syncMs: 220,
			freezeMs: 12,
			heldMs: 100,
			thawMs: 5,
			frozenUntilSnapshotEnded: true,
		},
	],
	scripts: [
		{
			name: "orders",
			phase: "session",
			exitCode: 0,
			timedOut: false,
			held: true,
			durationMs: 900,
			outputTail: "a\nheld all along\n",
		},
		{
			name: "mail",
			phase: "pre",
			exitCode: 3,
			timedOut: false,
			durationMs: 9,
			outputTail: "\u001b]0;title\u0007no spool",
		},
	],
	disks: [
		{
			name: "vda",
			included: true,
			achieved: "crash",
			held: "crash",
			because: ["excluded-by-config", "unsupported-file-system", "spans-left-out-disk"],
			fileSystemUuids: [],
		},
		{ name: "vdb", included: true, achieved: "file-system", held: "file-system", because: [], fileSystemUuids: [] },
	],
	notCovered: [
		{
			what: "/boot",
			why: "excluded-by-config",
			detail: "fileSystems.exclude names the mount point, as the admin wanted it",
		},
		{ what: "/tmp", why: "no-storage" },
	],
};

test("a report tells what writers waited for, and what was predicted", () => {
	const window = { freezeMs: 5, heldMs: 20, thawMs: 900, skewMs: 1, predictedStallMs: 700, stallMs: 925 };
	expect(screen(renderReport({ ...report, window }, page)).join("\n")).toMatch(
		/waited for 925 ms at most \(predicted 700 ms\)/,
	);
});

test("a report says the level, every reason, what writers felt, and each script's last words", () => {
	const text = screen(renderReport(report, page)).join("\n");
	expect(text).toMatch(/^ {2}level +crash {3}\(asked application/m);
	expect(text).toMatch(/excluded by the local\s+configuration\. \[excluded-by-config\]/);
	expect(text).toContain("[spans-left-out-disk]");
	expect(text).toMatch(/writers +waited for 117 ms at most; before it data was written out for\s+220 ms/);
	expect(text).toMatch(/orders +session +exit 0 +held +900 ms/);
	expect(text).toMatch(/orders +held all along/);
	expect(text).toMatch(/mail +\\u\{1b\}\]0;title\\u\{07\}no spool/);
	expect(text).toContain("1 mount has no own storage");
	expect(text.split("\n").length).toBeLessThan(45);
});

test("a report of a job that failed has no level in green", () => {
	const good = makeFakeReport({ jobId, level: "file-system", acceptLevel: "crash" }, null);
	const error = { code: "snapshot-failed" as const, message: "no", retryable: true };
	const levelLine = (report: Report) =>
		renderReport(report, { columns: 80, hasColor: true })
			.split("\n")
			.find((line) => line.includes("level"));
	expect(levelLine({ ...good, held: "file-system", achieved: null })).toContain("\u001b[32m");
	expect(levelLine({ ...good, held: "file-system", achieved: null, error })).not.toContain("\u001b[32m");
});

test("piped, every row of a report is a line, without colours", () => {
	const text = renderReport(report);
	expect(stripVTControlCharacters(text)).toBe(text);
	expect(text).toMatch(/\/srv\/databases\/postgresql\/15\/main +ext4 +vdb +thawed +220 ms +12 ms +100 ms +5\.0 ms/);
});

const step = {
	command: ["/usr/local/lib/backup/quiet-the-shop", "--database", "a b"],
	deadlineMs: 600_000,
	retries: 2,
};
const scripts = [
	{ name: "shop", application: "shop", source: "drop-in", order: 100, onFailure: "fail", runAs: "nobody" },
	{ name: "azure-script", application: "a-plugin-with-a-long-name", source: "azure-script", order: 500 },
].map((one) => ({
	...({ onFailure: "continue", ...one } as { name: string; application: string; source: "drop-in"; onFailure: "fail" }),
	order: one.order,
	pre: step,
	post: { ...step, retries: 0 },
	dryRun: false,
	keepsProcesses: false,
	ownerOnly: false,
}));
const bad = [{ name: "broken", onFailure: "continue" as const, error: { message: `${"pre.command ".repeat(12)}end` } }];

test("scripts on a terminal are an application a line, with its steps below it; on a wide page a table", () => {
	const found = { applications: scripts, bad, notes: [`/etc/${"long/".repeat(30)}name is not executable`] };
	const lines = screen(renderScripts(found, page));
	expect(lines[0]).toBe("100  shop: drop-in, as nobody; a failure fails the job");
	expect(lines[1]).toMatch(/^ {5}pre +10 min, 2 retries +\/usr\/local/);
	expect(lines.join("\n")).toMatch(/^ {5}post +10 min +\/usr\/local/m);
	expect(lines.join("\n")).toContain("500  azure-script (a-plugin-with-a-long-name): azure-script, as root");
	const none = screen(renderScripts({ applications: [], bad, notes: [] }, page));
	expect(none[0]).toBe("no scripts are configured");
	expect(renderScripts(found, { columns: 200, hasColor: false })).toMatch(/^ORDER +NAME +APPLICATION/);
});

test("a check of scripts fits, too", () => {
	const error = { code: "script-config-invalid" as const, message: "x ".repeat(90), retryable: false };
	const common = { name: "n", phase: "session" as const, timedOut: false, durationMs: 1, outputTail: "said\n" };
	const reports = [common, { ...common, error }];
	const checks = scripts.map(({ name, application }) => ({ name, application, source: "drop-in", reports }));
	const text = screen(renderScriptChecks({ checks, bad }, page)).join("\n");
	expect(text).toMatch(/^shop +session +looks well/m);
	expect(text).toContain("bad: broken (file-system at best)");
});

test("a job's id that another machine made up tells the terminal nothing", () => {
	const text = renderReport({ ...report, jobId: "a\r\nb\u001b[2J" });
	expect(text.split("\n")[0]).toBe("Job a\\u{0d} b\\u{1b}[2J");
});
