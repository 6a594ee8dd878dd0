/** The real executable on a real pseudo-terminal of 80 columns, and piped. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { widthOf } from "../../command-line/layout.ts";
import { localCalls } from "../../contracts/local-calls.ts";
import { type LocalHandlers, serveLocalChannel } from "../../platform/local-channel.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import { runOnTerminal, shellOptions, stillpointEntry } from "../fixtures/pseudo-terminal.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("python3");
const jobId = "0f8fad5b-d9cb-469f-a165-70867728950e";
const esc = "\u001b";
const stack = new AsyncDisposableStack();
let runDir: string;

beforeAll(async () => {
	const folder = mkdtempSync("/dev/shm/stillpoint-test-terminal-");
	stack.defer(() => rmSync(folder, { recursive: true, force: true }));
	runDir = join(folder, "run");
	mkdirSync(runDir, { mode: 0o700 });
	const report = makeFakeReport({ jobId, level: "file-system", acceptLevel: "crash" }, null);
	const because = ["excluded-by-config" as const];
	const none = () => Promise.reject(new Error("not in this test"));
	const handlers = {
		...(Object.fromEntries(Object.keys(localCalls).map((name) => [name, none])) as unknown as LocalHandlers),
		"job.report": () => Promise.resolve({ report: { ...report, because } }),
		"job.list": () => {
			const job = { phase: "done" as const, requested: "crash" as const, achieved: "crash" as const };
			const startedAt = "2026-11-20T11:00:00.000Z";
			return Promise.resolve({
				jobs: Array.from({ length: 1000 }, (_, at) => ({ ...job, jobId: `job-${at}`, startedAt })),
			});
		},
		"job.order": (_params, caller) => {
			setTimeout(() => {
				for (const phase of ["planning", "preparing"]) caller.notify("job.event", { type: "phase", jobId, phase });
				caller.notify("job.event", { type: "report", report });
			}, 50);
			return Promise.resolve({ type: "accepted" as const, jobId, repeated: false });
		},
	} as LocalHandlers;
	const socketPath = join(runDir, "agent.sock");
	const { signal } = new AbortController();
	stack.use(await serveLocalChannel({ socketPath, handlers, isFrozen: () => false, signal }));
});
afterAll(() => stack.disposeAsync());

function expectNarrow(text: string): void {
	// A line that is written anew begins at the carriage return.
	const lines = stripVTControlCharacters(text).split(/[\n\r]/);
	expect(lines.filter((line) => widthOf(line) > 80)).toEqual([]);
}

describe.skipIf(missing)(`on a terminal${missing ? `: ${missing}` : ""}`, () => {
	test("reports, errors and help fit 80 columns and have colours; not with NO_COLOR or --no-color", async () => {
		const where = ["--run-dir", runDir];
		const [report, failure, help, noColor, flag] = await Promise.all([
			runOnTerminal(["report", ...where]),
			runOnTerminal([
				"report",
				"--run-dir",
				"/nonexistent/with/a/rather/long/path/that/goes/on/and/on/and/on/for/ever",
			]),
			runOnTerminal(["snapshot", "--help"]),
			runOnTerminal(["report", ...where], { NO_COLOR: "1" }),
			runOnTerminal(["report", "--no-color", ...where]),
		]);
		for (const { text } of [report, failure, help, noColor, flag]) expectNarrow(text);
		for (const { text } of [report, failure]) expect(text).toContain(`${esc}[`);
		for (const { text } of [noColor, flag]) {
			expect(text).not.toContain(esc);
			expect(text).toBe(stripVTControlCharacters(report.text));
		}
		expect([report.exitCode, failure.exitCode, help.exitCode]).toEqual([0, 4, 0]);
		expect(failure.text).toContain("stillpoint explain agent-unreachable");
	});

	test("progress is one line that is written anew, and none of it is left", async () => {
		const words = ["snapshot", "--disk", "loop9999", "--level", "file-system", "--job-id", jobId, "--run-dir", runDir];
		const { text, exitCode } = await runOnTerminal(words);
		expect(exitCode).toBe(0);
		const steps = text.split("\r");
		expect(steps.filter((one) => /planning|preparing/.test(one) && one.startsWith(`${esc}[K`))).toHaveLength(2);
		expect(steps.at(-1)?.startsWith(`${esc}[KJob `)).toBe(true);
		expectNarrow(text);
	});
});

describe("piped", () => {
	const piped = (words: string[], environment?: Record<string, string>) =>
		execa(process.execPath, [stillpointEntry, ...words, "--run-dir", runDir], shellOptions(environment));

	test("there are no colours, a step is a line, and CLICOLOR_FORCE changes the first", async () => {
		const words = ["snapshot", "--disk", "loop9999", "--level", "file-system", "--job-id", jobId];
		const [snapshot, forced] = await Promise.all([piped(words), piped(["report"], { CLICOLOR_FORCE: "1" })]);
		expect(snapshot.stderr).toBe("planning\npreparing");
		expect(snapshot.stdout).not.toContain(esc);
		expect(snapshot.stdout).toMatch(/^Job /);
		expect(forced.stdout).toContain(`${esc}[`);
	});

	test("a reader that goes away ends it without a word", async () => {
		const child = spawn(process.execPath, [stillpointEntry, "jobs", "--limit", "1000", "--run-dir", runDir], {
			stdio: ["ignore", "pipe", "pipe"],
			env: shellOptions().env,
		});
		let stderr = "";
		child.stderr.setEncoding("utf8").on("data", (text: string) => {
			stderr += text;
		});
		child.stdout.destroy();
		const ended = await new Promise((resolve) => child.once("close", (code, signal) => resolve([code, signal])));
		expect([ended, stderr]).toEqual([[0, null], ""]);
	});
});
