import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import type { ApplicationScripts } from "../../extensions/vm-snapshot-linux/script-runner/application-scripts.ts";
import { Applications } from "../../extensions/vm-snapshot-linux/script-runner/applications.ts";
import { runScript } from "../../extensions/vm-snapshot-linux/script-runner/run-script.ts";
import type { RunnableStep } from "../../extensions/vm-snapshot-linux/script-runner/script-step.ts";
import { startSessionScript } from "../../extensions/vm-snapshot-linux/script-runner/session-script.ts";
import { openUndoList } from "../../extensions/vm-snapshot-linux/script-runner/undo-list.ts";
import { poll } from "../fixtures/poll.ts";
import { dropInScripts, isAlive, scriptContext, scriptJob, scriptStep } from "../fixtures/script-bench.ts";

let folder: string;

beforeEach(async () => {
	folder = await mkdtemp(join(tmpdir(), "stillpoint-scripts-"));
});
afterEach(async () => {
	await rm(folder, { recursive: true, force: true });
});

describe("a pre or post script", () => {
	test("succeeds only by exit status 0", async () => {
		const good = await run("exits-0.sh");
		expect(good).toMatchObject({ exitCode: 0, timedOut: false });
		expect(good.error).toBeUndefined();
		const bad = await run("exits-3.sh");
		expect(bad).toMatchObject({ exitCode: 3, error: { code: "script-failed" } });
		expect(bad.outputTail).toBe("could not stop the shop\n");
	});

	test("that does not exist is a failure, not an exception", async () => {
		const report = await run("there-is-none.sh");
		expect(report.error).toMatchObject({ code: "script-failed" });
		expect(report.error?.message).toContain("there-is-none.sh");
		expect(report.exitCode).toBeUndefined();
	});

	test("that ignores SIGTERM is gone after its deadline", async () => {
		const report = await run("ignores-sigterm.sh", [join(folder, "pid")], { deadlineMs: 300 });
		expect(report).toMatchObject({ timedOut: true, signal: "SIGKILL", error: { code: "script-timeout" } });
		expect(isAlive(await readPid())).toBe(false);
	});

	test("leaves no child behind, and one that keeps its output open does not hold it up", async () => {
		const report = await run("leaves-a-child.sh", [join(folder, "pid")], { deadlineMs: 60_000 });
		expect(report).toMatchObject({ exitCode: 0, timedOut: false });
		const child = await readPid();
		await poll(() => isAlive(child)).toBe(false);
	});

	test("may print without end: only the tail is kept", async () => {
		const report = await run("prints-100mb.sh");
		expect(report.exitCode).toBe(0);
		expect(report.outputTail.length).toBe(4096);
		expect(report.outputTail.endsWith("x\nthe last line\n")).toBe(true);
	});

	test("gets the environment of the contract and nothing of ours", async () => {
		const lines = (await run("prints-environment.sh", [], { outcome: "no-snapshot" })).outputTail.trim().split("\n");
		expect(lines).toContain("STILLPOINT_JOB_ID=job-1");
		expect(lines).toContain("STILLPOINT_PHASE=post");
		expect(lines).toContain("STILLPOINT_LEVEL=application");
		expect(lines).toContain("STILLPOINT_DISKS=vda,loop3");
		expect(lines).toContain("STILLPOINT_OUTCOME=no-snapshot");
		expect(lines.find((line) => line.startsWith("PATH="))).toMatch(`PATH=${dirname(process.execPath)}:`);
		const names = lines.map((line) => line.split("=")[0]).filter((name) => !/^(PWD|SHLVL|_|OLDPWD)$/.test(name ?? ""));
		const own = ["DISKS", "FILE_SYSTEMS", "JOB_ID", "LEVEL", "OUTCOME", "PHASE", "RUN", "SCRIPT"];
		expect(names.sort()).toEqual(
			["HOME", "LC_ALL", "LOGNAME", "PATH", ...own.map((name) => `STILLPOINT_${name}`), "USER"]
				.concat(
					// The second line of the file systems.
					["/srv/my shop"],
				)
				.sort(),
		);
		expect(lines).toContain(`STILLPOINT_SCRIPT=${script("prints-environment.sh")}`);
		expect(lines).toContain("STILLPOINT_FILE_SYSTEMS=/");
	});

	test("is ended when the job is cancelled", async () => {
		const cancel = new AbortController();
		const running = run("ignores-sigterm.sh", [join(folder, "pid")], { signal: cancel.signal });
		while (!existsSync(join(folder, "pid"))) await sleep(10);
		cancel.abort(new StillpointError("cancelled", "asked"));
		const report = await running;
		expect(report).toMatchObject({ timedOut: false, error: { code: "script-failed" } });
		expect(report.error?.message).toBe("pre script of shop: ended with the job: asked");
		expect(isAlive(await readPid())).toBe(false);
	});

	test("that could be changed by others is not started", async () => {
		const report = await runScript(
			scriptStep([script("ignores-sigterm.sh"), join(folder, "pid")], { deadlineMs: 1000 }),
			scriptContext({ checkTrust: (path) => Promise.reject(new StillpointError("script-untrusted", path)) }),
		);
		expect(report.error).toMatchObject({ code: "script-untrusted", message: script("ignores-sigterm.sh") });
		expect(existsSync(join(folder, "pid"))).toBe(false);
	});

	test("given to an interpreter is checked too, its data is not", async () => {
		const checked: string[] = [];
		const command = ["/bin/sh", "-e", script("writes-line.sh"), join(folder, "lines"), "a"];
		const report = await runScript(
			scriptStep(command),
			scriptContext({ checkTrust: (path) => Promise.resolve(void checked.push(path)) }),
		);
		expect(report.exitCode).toBe(0);
		expect([...new Set(checked)]).toEqual(["/bin/sh", script("writes-line.sh")]);
	});
});

describe("a session script", () => {
	test("that says ready and proves its hold, held", async () => {
		const session = await start("holds.sh", [join(folder, "lines"), "a"]);
		expect(session.failure).toBeUndefined();
		expect(session.lost.aborted).toBe(false);
		const report = await session.release("snapshot");
		expect(report).toMatchObject({ held: true, exitCode: 0, timedOut: false });
		expect(report.error).toBeUndefined();
		expect(await readFile(join(folder, "lines"), "utf8")).toBe("a ready\na release snapshot\n");
	});

	test("that is never ready is ended at its deadline", async () => {
		const session = await start("never-ready.sh", [join(folder, "pid")], 300);
		expect(session.failure).toMatchObject({ code: "script-timeout" });
		expect(isAlive(await readPid())).toBe(false);
		const report = await session.release("no-snapshot");
		expect(report).toMatchObject({ held: false, timedOut: true, error: { code: "script-timeout" } });
		expect(report.outputTail).toBe("still waiting for the shop\n");
	});

	test("that ends before it is ready failed", async () => {
		expect((await start("exits-3.sh")).failure).toMatchObject({ code: "script-failed" });
		expect((await start("exits-0.sh")).failure).toMatchObject({ code: "script-failed" });
		expect((await start("there-is-none.sh")).failure).toMatchObject({ code: "script-failed" });
	});

	test("that dies while it holds is noticed at once, and is lost whatever its exit status", async () => {
		const session = await start("dies-while-holding.sh");
		expect(session.failure).toBeUndefined();
		while (!session.lost.aborted) await sleep(10);
		const report = await session.release("snapshot");
		expect(report).toMatchObject({ held: false, exitCode: 0, error: { code: "script-hold-lost" } });
	});

	test.each([
		["says-lost.sh", "script-hold-lost"],
		["proves-nothing.sh", "script-hold-lost"],
		["held-but-fails.sh", "script-failed"],
	])("%s did not hold", async (name, code) => {
		const session = await start(name);
		expect(session.failure).toBeUndefined();
		expect(await session.release("snapshot")).toMatchObject({ held: false, error: { code } });
	});

	test("that says held before it is asked proves nothing", async () => {
		const session = await start("says-held-too-early.sh");
		while (!session.lost.aborted) await sleep(10);
		expect(await session.release("snapshot")).toMatchObject({ held: false, error: { code: "script-hold-lost" } });
	});

	test("that hangs after its release is ended and did not hold", async () => {
		const session = await start("hangs-on-release.sh", [], 400);
		expect(session.failure).toBeUndefined();
		const report = await session.release("snapshot");
		expect(report).toMatchObject({ held: false, timedOut: true, error: { code: "script-timeout" } });
	});
});

describe("the applications of a job", () => {
	test("are made quiet in order, and let go in reverse", async () => {
		const applications = applicationsOf([pair("a"), session("b"), pair("c")]);
		await applications.quiet(AbortSignal.timeout(30_000));
		await applications.resume("snapshot");
		expect(await lines()).toEqual([
			"a pre ",
			"b ready",
			"c pre ",
			"c post snapshot",
			"b release snapshot",
			"a post snapshot",
		]);
		expect(applications.findFailure()).toBeUndefined();
		expect(applications.evidence().map((one) => one.proved)).toEqual([true, true, true]);
	});

	test("post runs for every pre that was started, also for the one that failed", async () => {
		const failing = pair("b", { pre: { command: [script("fails-and-writes-line.sh"), join(folder, "lines"), "b"] } });
		const applications = applicationsOf([pair("a"), failing, pair("c")]);
		await expect(applications.quiet(AbortSignal.timeout(30_000))).rejects.toMatchObject({ code: "script-failed" });
		await applications.resume("no-snapshot");
		expect(await lines()).toEqual(["a pre ", "b pre ", "b post no-snapshot", "a post no-snapshot"]);
		expect(applications.evidence().map((one) => one.proved)).toEqual([true, false, false]);
	});

	test("one that may fail does not fail the job, but is not proved", async () => {
		const failing = pair("a", { onFailure: "continue", pre: { command: [script("exits-3.sh")] } });
		const applications = applicationsOf([failing, pair("b")]);
		await applications.quiet(AbortSignal.timeout(30_000));
		await applications.resume("snapshot");
		expect(applications.findFailure()).toBeUndefined();
		expect(applications.evidence()).toMatchObject([
			{ name: "a", proved: false },
			{ name: "b", proved: true },
		]);
	});

	test("a failing post script takes the proof away", async () => {
		const failing = pair("a", { post: { command: [script("exits-3.sh")] } });
		const applications = applicationsOf([failing]);
		await applications.quiet(AbortSignal.timeout(30_000));
		expect(applications.evidence()[0]?.proved).toBe(false);
		await applications.resume("snapshot");
		expect(applications.findFailure()).toMatchObject({ code: "script-failed" });
		expect(applications.evidence()[0]?.proved).toBe(false);
	});

	test("a session that dies in the hold is told while it happens", async () => {
		const dying = {
			...session("a"),
			session: { command: [script("dies-while-holding.sh")], deadlineMs: 5000, retries: 0 },
		};
		const applications = applicationsOf([dying]);
		await applications.quiet(AbortSignal.timeout(30_000));
		while (!applications.lost.aborted) await sleep(10);
		await applications.resume("no-snapshot");
		expect(applications.evidence()).toEqual([{ name: "a", proved: false, holdLost: true, bad: true }]);
	});

	test("a session that was never ready failed, and lost no hold", async () => {
		const command = [script("exits-3.sh")];
		const never = {
			...session("a"),
			onFailure: "continue",
			session: { command, deadlineMs: 5000, retries: 0 },
		} as const;
		const applications = applicationsOf([never, session("b")]);
		await applications.quiet(AbortSignal.timeout(30_000));
		await applications.resume("snapshot");
		expect(applications.evidence()).toEqual([
			{ name: "a", proved: false, holdLost: false, bad: true },
			{ name: "b", proved: true, holdLost: false },
		]);
		const found = applications.reports.find(({ name }) => name === "a");
		expect(found).toMatchObject({ phase: "session", source: "drop-in", exitCode: 3, error: { code: "script-failed" } });
		expect(found?.held).toBeUndefined();
	});

	test("a session that is lost before the freeze is known not to be proved, and so is told then", async () => {
		const leaves = script("dies-while-holding.sh");
		const all = applicationsOf([{ ...session("a"), onFailure: "continue", session: stepOf([leaves]) }]);
		await all.quiet(AbortSignal.timeout(30_000));
		await poll(() => all.evidence()[0]?.bad).toBe(true);
		expect(all.evidence()).toEqual([{ name: "a", proved: false, holdLost: true, bad: true }]);
		expect(all.lost.aborted).toBe(false);
		await all.resume("no-snapshot");
	});

	test("one that is only told afterwards was not made quiet: its post can lower a level, not raise it", async () => {
		const told = dropInScripts("a", { post: { command: [script("writes-line.sh"), join(folder, "lines"), "a"] } });
		const all = applicationsOf([told]);
		await all.quiet(AbortSignal.timeout(30_000));
		expect(all.evidence()).toEqual([]);
		await all.resume("snapshot");
		expect(all.evidence()).toEqual([]);
		expect(await lines()).toEqual(["a post snapshot"]);
		const failing = applicationsOf([{ ...told, post: stepOf([script("exits-3.sh")]) }]);
		await failing.quiet(AbortSignal.timeout(30_000));
		await failing.resume("snapshot");
		expect(failing.evidence()).toEqual([{ name: "a", proved: false, holdLost: false, bad: true }]);
	});

	test("letting go twice runs nothing twice", async () => {
		const applications = applicationsOf([pair("a")]);
		await applications.quiet(AbortSignal.timeout(30_000));
		await Promise.all([applications.resume("snapshot"), applications.resume("no-snapshot")]);
		expect(await lines()).toEqual(["a pre ", "a post snapshot"]);
	});

	function applicationsOf(all: readonly ApplicationScripts[]) {
		const context = scriptContext({ runFolder: folder });
		return new Applications(all, context, openUndoList(folder, scriptJob));
	}

	function pair(name: string, changes: Record<string, unknown> = {}) {
		const command = [script("writes-line.sh"), join(folder, "lines"), name];
		return dropInScripts(name, { pre: { command }, post: { command }, ...changes });
	}

	function session(name: string) {
		return dropInScripts(name, { session: { command: [script("holds.sh"), join(folder, "lines"), name] } });
	}

	async function lines(): Promise<string[]> {
		return (await readFile(join(folder, "lines"), "utf8")).split("\n").slice(0, -1);
	}
});

function stepOf(command: readonly string[]) {
	return { command, deadlineMs: 5_000, retries: 0 };
}

function script(name: string): string {
	return join(import.meta.dirname, "../fixtures/scripts", name);
}

function run(
	name: string,
	args: string[] = [],
	options: Partial<RunnableStep> & { signal?: AbortSignal; outcome?: "snapshot" | "no-snapshot" } = {},
) {
	const { outcome, signal, ...changes } = options;
	const step = scriptStep([script(name), ...args], { ...changes, phase: outcome === undefined ? "pre" : "post" });
	return runScript(step, scriptContext(), {
		...(outcome === undefined ? {} : { end: { outcome } }),
		...(signal === undefined ? {} : { signal }),
	});
}

function start(name: string, args: string[] = [], deadlineMs = 10_000) {
	return startSessionScript(scriptStep([script(name), ...args], { phase: "session", deadlineMs }), scriptContext());
}

async function readPid(): Promise<number> {
	return Number(await readFile(join(folder, "pid"), "utf8"));
}
