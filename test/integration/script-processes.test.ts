import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Applications } from "../../extensions/vm-snapshot-linux/script-runner/applications.ts";
import { runScript } from "../../extensions/vm-snapshot-linux/script-runner/run-script.ts";
import type { RunnableStep } from "../../extensions/vm-snapshot-linux/script-runner/script-step.ts";
import { startSessionScript } from "../../extensions/vm-snapshot-linux/script-runner/session-script.ts";
import { openUndoList } from "../../extensions/vm-snapshot-linux/script-runner/undo-list.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import {
	dropInScripts,
	isAlive,
	makeScriptFolder,
	type ScriptFolder,
	scriptContext,
	scriptJob,
	scriptStep,
} from "../fixtures/script-bench.ts";

const lacking = requireTools("root");
const endless = "while :; do sleep 0.1; done";

describe.skipIf(lacking)(`the processes of a script${lacking ? ` (${lacking})` : ""}`, { concurrent: true }, () => {
	let folder: ScriptFolder;
	beforeAll(() => {
		folder = makeScriptFolder();
	});
	/** Whatever a test left: all that has the folder in its environment. */
	afterAll(() => {
		for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
			try {
				const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
				if (environment.includes(`STILLPOINT_SCRIPT=${folder.path}/`)) process.kill(Number(pid), "SIGKILL");
			} catch {
				// It has ended.
			}
		}
		folder[Symbol.dispose]();
	});

	const context = () => scriptContext({ runFolder: folder.runFolder });
	const path = (name: string) => join(folder.path, name);
	const script = (name: string, body: string) => folder.write(name, `#!/bin/sh\n${body}\n`);
	const run = (name: string, body: string, changes: Partial<RunnableStep> = {}, signal?: AbortSignal) =>
		runScript(scriptStep([script(name, body)], changes), context(), signal === undefined ? {} : { signal });
	const findPid = (name: string) => Number(folder.read(name) ?? "0");
	const started = (name: string) => poll(() => findPid(name)).toBeGreaterThan(0);
	/** Of another process, which goes on: `NAME.pid` is written by it. */
	const daemon = (name: string, how = "setsid") =>
		`${how} sh -c 'trap "" TERM HUP; echo $$ > ${path(`${name}.pid`)}; ${endless}' < /dev/null > /dev/null 2>&1 &\n` +
		`while [ ! -s ${path(`${name}.pid`)} ]; do sleep 0.02; done`;

	/** The processes of a script, by its path in their environment. */
	const findOwn = (name: string) =>
		readdirSync("/proc").filter((pid) => {
			try {
				return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`STILLPOINT_SCRIPT=${path(name)}\0`);
			} catch {
				return false;
			}
		});

	const ways: [string, string][] = [
		["a child", ""],
		["a session of its own", "setsid"],
		["a grandchild whose parent ended", "setsid sh -c 'setsid sh INNER & exit 0'"],
		["one without environment", "env -i PATH=/usr/bin:/bin setsid"],
	];

	test.each(ways)("%s is ended with it", async (way, how) => {
		const name = way.replaceAll(" ", "-");
		const inner = script(`${name}-inner`, `trap "" TERM HUP\necho $$ > ${path(`${name}.pid`)}\n${endless}`);
		const given = how.includes("exit 0") ? how.replace("INNER", inner) : `${how} sh ${inner} &`;
		const cancel = new AbortController();
		const running = run(name, `${given}\n${endless}`, {}, cancel.signal);
		await started(`${name}.pid`);
		cancel.abort(new Error("cancelled"));
		expect(await running).toMatchObject({ signal: "SIGTERM", error: { code: "script-failed" } });
		expect(isAlive(findPid(`${name}.pid`))).toBe(false);
	});

	test("it is asked first, and what it starts to let go is let do so", async () => {
		const body = `trap 'sh -c "sleep 0.2; echo > ${path("let-go")}"; exit 1' TERM\necho $$ > ${path("asks.pid")}\n${endless}`;
		const cancel = new AbortController();
		const running = run("asks", body, {}, cancel.signal);
		await started("asks.pid");
		cancel.abort(new Error("cancelled"));
		expect(await running).toMatchObject({ exitCode: 1, timedOut: false, error: { code: "script-failed" } });
		expect(folder.read("let-go")).toBeDefined();
	});

	test("one that hands on to ever new sessions of their own is ended altogether", async () => {
		const inner = path("forks-inner");
		script("forks-inner", `trap "" TERM\necho $$ > ${path("forks.pid")}\nsleep 1.5\nsetsid sh ${inner} &\nexit`);
		const cancel = new AbortController();
		const running = run("forks", `setsid sh ${inner} &\n${endless}`, {}, cancel.signal);
		await started("forks.pid");
		// So that it can fail.
		expect(findOwn("forks").length).toBeGreaterThan(1);
		cancel.abort(new Error("cancelled"));
		expect((await running).error?.code).toBe("script-failed");
		expect(findOwn("forks")).toEqual([]);
	});

	test("one that stops itself is ended", async () => {
		const stopped = await run("stops", "kill -STOP $$", { deadlineMs: 300 });
		expect(stopped).toMatchObject({ timedOut: true, signal: "SIGTERM", error: { code: "script-timeout" } });
	});

	test("one that ends by a signal, closes its output or reads nothing is told as what it is", async () => {
		const [killed, closed, deaf] = await Promise.all([
			run("killed", "kill -SEGV $$"),
			run("closed", "exec > /dev/null 2>&1 < /dev/null\nsleep 0.2\nexit 4"),
			runScript(
				scriptStep([script("deaf", "exec < /dev/null\nsleep 0.2")]),
				scriptContext({ job: { ...scriptJob, disks: Array.from({ length: 40_000 }, (_, index) => `vd${index}`) } }),
			),
		]);
		expect(killed).toMatchObject({ signal: "SIGSEGV", error: { code: "script-failed" } });
		expect(killed.error?.message).toContain("SIGSEGV");
		expect(closed).toMatchObject({ exitCode: 4, error: { code: "script-failed" } });
		// So many disks are more than a variable may hold: it is not even started.
		expect(deaf.error?.code).toBe("script-failed");
	});

	test("its memory is the kernel's to take as that of any service, whatever the runner's own is", async () => {
		const own = "/proc/self/oom_score_adj";
		const before = readFileSync(own, "utf8");
		// Nobody may lower it here and there: a higher one shows the same.
		writeFileSync(own, "300");
		const report = await run("oom", `cat ${own}`);
		const after = readFileSync(own, "utf8");
		writeFileSync(own, before);
		expect(after).toBe("300\n");
		expect(report.outputTail).toBe("0\n");
	});

	test("one whose file cannot be looked at is given up after a while, or with the job", async () => {
		const hangs = scriptContext({ checkTrust: () => new Promise(() => undefined) });
		const step = scriptStep([script("unseen", "exit 0")], { deadlineMs: 300 });
		const [late, session, cancelled] = await Promise.all([
			runScript(step, hangs),
			startSessionScript({ ...step, phase: "session" }, hangs),
			runScript({ ...step, deadlineMs: 60_000 }, hangs, { signal: AbortSignal.timeout(100) }),
		]);
		expect(late).toMatchObject({ timedOut: true, error: { code: "script-timeout" } });
		expect(late.error?.message).toContain(path("unseen"));
		expect(session.failure).toMatchObject({ code: "script-timeout" });
		expect(cancelled).toMatchObject({ timedOut: false, error: expect.anything() });
	});

	test("one that reads nothing of a long input ends well", async () => {
		const fileSystems = Array.from({ length: 5_000 }, (_, index) => ({
			mountPoint: `/mnt/${index}`,
			superblock: "7:1",
		}));
		const job = { ...scriptJob, fileSystems };
		const report = await runScript(scriptStep([script("deaf-2", "sleep 0.1")]), scriptContext({ job }));
		expect(report).toMatchObject({ exitCode: 0 });
	});

	test("after a good end its group is ended, and what took a session of its own stays", async () => {
		const body = `sh -c 'trap "" TERM; echo $$ > ${path("group.pid")}; ${endless}' &\n${daemon("server")}\nwhile [ ! -s ${path("group.pid")} ]; do sleep 0.02; done`;
		const report = await run("good", body, { phase: "post" });
		expect(report).toMatchObject({ exitCode: 0 });
		expect(report.error).toBeUndefined();
		await poll(() => isAlive(findPid("group.pid"))).toBe(false);
		expect(isAlive(findPid("server.pid"))).toBe(true);
	});

	describe("of a host that ends nothing", () => {
		function applications(name: string, pre: string, post: string) {
			const scripts = {
				...dropInScripts(name, {
					pre: { command: [script(`${name}-pre`, pre)] },
					post: { command: [script(`${name}-post`, post)] },
				}),
				keepsProcesses: true,
			};
			return new Applications([scripts], context(), openUndoList(folder.runFolder, { ...scriptJob, jobId: name }));
		}
		const holder = (name: string) =>
			`sh -c 'echo $$ > ${path(`${name}.pid`)}; while :; do echo holding; sleep 0.05; done' &\nwhile [ ! -s ${path(`${name}.pid`)} ]; do sleep 0.02; done`;

		test("stay until post has ended, and are found by it; what they print goes nowhere", async () => {
			const all = applications("kept", holder("kept"), `kill -0 $(cat ${path("kept.pid")}) || exit 9`);
			await all.quiet(AbortSignal.timeout(30_000));
			await new Promise((resolve) => setTimeout(resolve, 300));
			expect(isAlive(findPid("kept.pid"))).toBe(true);
			await all.resume("snapshot");
			expect(all.reports.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
			await poll(() => isAlive(findPid("kept.pid"))).toBe(false);
			expect(existsSync(join(folder.runFolder, "undo/kept.json"))).toBe(false);
		});

		test("are ended when the pre failed, before its post", async () => {
			const all = applications(
				"failed",
				`${holder("failed")}\nexit 3`,
				`sleep 0.3; grep '^State:.[^ZX]' /proc/$(cat ${path("failed.pid")})/status && exit 9; exit 0`,
			);
			await expect(all.quiet(AbortSignal.timeout(30_000))).rejects.toMatchObject({ code: "script-failed" });
			await all.resume("no-snapshot");
			expect(all.reports.map(({ exitCode }) => exitCode)).toEqual([3, 0]);
			expect(all.evidence()[0]?.proved).toBe(false);
		});
	});

	describe("of a session", () => {
		const start = (name: string, body: string, deadlineMs = 30_000) =>
			startSessionScript(scriptStep([script(name, body)], { phase: "session", deadlineMs }), context());

		test("that is never ready are ended, wherever they went", async () => {
			const session = await start("never", `${daemon("never")}\n${endless}`, 1_500);
			expect(session.failure).toMatchObject({ code: "script-timeout" });
			expect(isAlive(findPid("never.pid"))).toBe(false);
		});

		test("that daemonises itself before it is ready: its first process ended, so it is no session", async () => {
			const session = await start("leaves", `setsid sh -c 'sleep 0.1; echo ready; ${endless}' &\nexit 0`);
			await poll(() => session.lost.aborted).toBe(true);
			expect(await session.release("snapshot")).toMatchObject({ held: false, error: expect.anything() });
		});

		test("whose child says held in its place, after it ended, did not hold", async () => {
			const body = `read -r input\n(sleep 0.3; echo held) &\necho ready\nexit 0`;
			const session = await start("child-says", body);
			await poll(() => session.lost.aborted).toBe(true);
			expect(await session.release("snapshot")).toMatchObject({ held: false, error: { code: "script-hold-lost" } });
		});

		test("that hangs after its release are ended, wherever they went", async () => {
			const body = `read -r input\n${daemon("late")}\necho ready\nread -r word\n${endless}`;
			const session = await start("late", body, 3_000);
			expect(session.failure).toBeUndefined();
			expect(await session.release("snapshot")).toMatchObject({ held: false, timedOut: true });
			expect(isAlive(findPid("late.pid"))).toBe(false);
		});
	});

	test("a post that never ends is ended, and takes the proof away", async () => {
		const pre = { command: [script("p-pre", "exit 0")] };
		const post = { command: [script("p-post", endless)], deadlineMs: 300 };
		const all = new Applications(
			[dropInScripts("p", { pre, post })],
			context(),
			openUndoList(folder.runFolder, scriptJob),
		);
		await all.quiet(AbortSignal.timeout(30_000));
		await all.resume("snapshot");
		expect(all.reports[1]).toMatchObject({ phase: "post", timedOut: true, error: { code: "script-timeout" } });
		expect(all.evidence()).toMatchObject([{ name: "p", proved: false, holdLost: false }]);
	});
});
