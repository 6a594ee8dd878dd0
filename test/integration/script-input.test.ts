import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ScriptInput, scriptInputSchema } from "../../contracts/script-input.ts";
import { Applications } from "../../extensions/vm-snapshot-linux/script-runner/applications.ts";
import { dryRun } from "../../extensions/vm-snapshot-linux/script-runner/dry-run.ts";
import { runScript } from "../../extensions/vm-snapshot-linux/script-runner/run-script.ts";
import type { RunnableStep } from "../../extensions/vm-snapshot-linux/script-runner/script-step.ts";
import { openUndoList } from "../../extensions/vm-snapshot-linux/script-runner/undo-list.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import {
	dropInScripts,
	makeScriptFolder,
	type ScriptFolder,
	scriptContext,
	scriptJob,
	scriptStep,
} from "../fixtures/script-bench.ts";

const lacking = requireTools("root");

describe.skipIf(lacking)(`what a script is told and how often it is tried${lacking ? ` (${lacking})` : ""}`, () => {
	let folder: ScriptFolder;
	beforeAll(() => {
		folder = makeScriptFolder();
	});
	afterAll(() => folder[Symbol.dispose]());

	const path = (name: string) => join(folder.path, name);
	const script = (name: string, body: string) => folder.write(name, `#!/bin/sh\n${body}\n`);
	const run = (step: RunnableStep, signal?: AbortSignal) =>
		runScript(step, scriptContext({ runFolder: folder.runFolder }), signal === undefined ? {} : { signal });
	/** Writes its whole stdin and its phase. */
	const notes = (name: string) =>
		script(
			name,
			`read -r line\necho "$STILLPOINT_PHASE $*" >> ${path("phases")}\necho "$line" > ${path(`${name}.$STILLPOINT_PHASE`)}`,
		);
	const applications = (...all: Parameters<typeof dropInScripts>[]) =>
		new Applications(
			all.map((one) => dropInScripts(...one)),
			scriptContext({ runFolder: folder.runFolder }),
			openUndoList(folder.runFolder, scriptJob),
		);
	const told = (name: string): ScriptInput => scriptInputSchema.parse(JSON.parse(folder.read(name) ?? ""));

	test("pre is told the job, post also the outcome and the recovery point", async () => {
		const command = [notes("pair")];
		const all = applications(["pair", { pre: { command }, post: { command } }]);
		await all.quiet(AbortSignal.timeout(30_000));
		const recoveryPoint = {
			frozenAt: "2026-11-20T10:00:00.000Z",
			thawedAt: "2026-11-20T10:00:00.500Z",
			disks: [
				{ name: "vda", ok: true, snapshotId: "snap-1", provider: "image" },
				{ name: "loop3", ok: false, error: "no space" },
			],
		};
		await all.resume("snapshot", recoveryPoint);
		expect(told("pair.pre")).toEqual({ schemaVersion: 1, phase: "pre", ...scriptJob });
		expect(told("pair.post")).toEqual({
			schemaVersion: 1,
			phase: "post",
			...scriptJob,
			outcome: "snapshot",
			recoveryPoint,
		});
		expect(all.reports.every(({ error }) => error === undefined)).toBe(true);
	});

	test("a mount point with a line end in its name does not pass for two", async () => {
		const job = { ...scriptJob, fileSystems: [{ mountPoint: "/home/them/a\n/srv/shop", superblock: "7:1" }] };
		const context = scriptContext({ runFolder: folder.runFolder, job });
		const step = scriptStep([script("lines", 'read -r line\nprintf "%s\n" "$STILLPOINT_FILE_SYSTEMS" "$line"')]);
		const [mountPoints, line] = (await runScript(step, context)).outputTail.split("\n");
		expect(mountPoints).toBe("/home/them/a\\012/srv/shop");
		expect(JSON.parse(line ?? "")).toMatchObject({ fileSystems: job.fileSystems });
	});

	test("stdin of a pair ends after the line, that of a session stays open", async () => {
		const pair = script("reads-all", "cat > /dev/null");
		expect(await run(scriptStep([pair]))).toMatchObject({ exitCode: 0, timedOut: false });
		const command = [
			script("session", `read -r input\necho "$input" > ${path("session.told")}\necho ready\nread -r word\necho held`),
		];
		const post = { command: [script("session-post", `cat > ${path("session.post")}`)] };
		const all = applications(["session", { session: { command }, post }]);
		await all.quiet(AbortSignal.timeout(30_000));
		expect(all.lost.aborted).toBe(false);
		expect(told("session.told").phase).toBe("session");
		await all.resume("snapshot");
		expect(all.reports.map(({ phase, held }) => [phase, held])).toEqual([
			["session", true],
			["post", undefined],
		]);
		expect(told("session.post").outcome).toBe("snapshot");
	});

	test("the post beside a session runs also when that was killed", async () => {
		const session = { command: [script("killed", "read -r input\necho ready\nkill -KILL $$")] };
		const all = applications(["killed", { session, post: { command: [notes("after-killed")] } }]);
		await all.quiet(AbortSignal.timeout(30_000));
		await poll(() => all.lost.aborted).toBe(true);
		await all.resume("no-snapshot");
		expect(told("after-killed.post").outcome).toBe("no-snapshot");
		expect(all.evidence()).toMatchObject([{ proved: false, holdLost: true }]);
	});

	test("another post is called when there is no snapshot", async () => {
		for (const outcome of ["snapshot", "no-snapshot"] as const) {
			const command = [script("thaws", `echo with > ${path("which")}`)];
			const commandWithoutSnapshot = [script("fails", `echo without > ${path("which")}`)];
			const scripts = dropInScripts("vmware", { post: { command } });
			const post = { command, commandWithoutSnapshot, deadlineMs: 30_000, retries: 0 };
			const undo = openUndoList(folder.runFolder, scriptJob);
			const all = new Applications([{ ...scripts, post }], scriptContext({ runFolder: folder.runFolder }), undo);
			await all.quiet(AbortSignal.timeout(30_000));
			await all.resume(outcome);
			expect(folder.read("which")).toBe(outcome === "snapshot" ? "with\n" : "without\n");
		}
	});

	describe("retries", () => {
		/** Fails until it was started so often. */
		const works = (name: string, times: number) =>
			script(
				name,
				`cat > /dev/null\necho $$ >> ${path(`${name}.pids`)}\n[ "$(wc -l < ${path(`${name}.pids`)})" -ge ${times} ]`,
			);
		const pids = (name: string) => (folder.read(`${name}.pids`) ?? "").split("\n").slice(0, -1);

		test("are new processes, until one ends well", async () => {
			const report = await run(scriptStep([works("third", 3)], { retries: 5 }));
			expect(report).toMatchObject({ exitCode: 0, attempts: 3 });
			expect(report.error).toBeUndefined();
			expect(new Set(pids("third")).size).toBe(3);
		});

		test("are as many as configured, and none without", async () => {
			const report = await run(scriptStep([works("never", 99)], { retries: 2 }));
			expect(report).toMatchObject({ exitCode: 1, attempts: 3, error: { code: "script-failed" } });
			expect(pids("never").length).toBe(3);
			const once = await run(scriptStep([works("once", 99)]));
			expect(once.error?.code).toBe("script-failed");
			expect(once.attempts).toBeUndefined();
			expect(pids("once").length).toBe(1);
		});

		test("end with the deadline of all of them, and what fails late is not tried again", async () => {
			const report = await run(scriptStep([works("slow", 99)], { retries: 10, deadlineMs: 1_000 }));
			expect(report.error).toBeDefined();
			expect(report.attempts).toBeGreaterThan(1);
			expect(report.attempts).toBeLessThan(8);
			const hanging = await run(scriptStep([script("hangs", "sleep 60")], { retries: 10, deadlineMs: 300 }));
			expect(hanging).toMatchObject({ timedOut: true, attempts: 1, error: { code: "script-timeout" } });
		});

		test("end with the job", async () => {
			const cancel = new AbortController();
			const running = run(scriptStep([works("cancelled", 99)], { retries: 10 }), cancel.signal);
			await poll(() => pids("cancelled").length).toBeGreaterThan(0);
			cancel.abort(new Error("cancelled"));
			expect((await running).error?.code).toBe("script-failed");
			const count = pids("cancelled").length;
			expect(count).toBeLessThan(11);
		});
	});

	describe("dry run", () => {
		const dry = (content: Record<string, unknown>) =>
			dryRun(dropInScripts("shop", content), scriptJob, {
				runFolder: folder.runFolder,
			});

		test("calls pre with --dry-run behind its arguments, and nothing else", async () => {
			const pre = { command: [notes("dry-pre"), "an argument"] };
			const post = { command: [notes("dry-post")] };
			const reports = await dry({ dryRun: true, pre, post });
			expect(reports).toMatchObject([
				{ name: "shop", phase: "pre", exitCode: 0 },
				{ name: "shop", phase: "post" },
			]);
			expect(reports.map(({ error }) => error)).toEqual([undefined, undefined]);
			expect(told("dry-pre.dry-run").phase).toBe("dry-run");
			expect(folder.read("phases")).toContain("dry-run an argument --dry-run\n");
			expect(reports[1]?.exitCode).toBeUndefined();
			expect(folder.read("dry-post.dry-run")).toBeUndefined();
		});

		test("starts nothing that does not know it, but looks at all of it", async () => {
			const reports = await dry({ pre: { command: [notes("unknowing")] }, post: { command: [path("absent")] } });
			expect(reports.map(({ error }) => error?.code)).toEqual([undefined, "script-failed"]);
			expect(folder.read("unknowing.dry-run")).toBeUndefined();
			const other = folder.write("open-to-all", "#!/bin/sh\nexit 0\n");
			const { chmodSync } = await import("node:fs");
			chmodSync(other, 0o777);
			expect((await dry({ dryRun: true, pre: { command: [other] } }))[0]?.error?.code).toBe("script-untrusted");
			expect((await dry({ runAs: "no-such-user", pre: { command: [other] } }))[0]?.error?.code).toBe(
				"script-config-invalid",
			);
		});

		test("of a session ends with it: nobody says release", async () => {
			const command = [script("dry-session", 'read -r input\ncat\necho "$1"')];
			const [report] = await dry({ dryRun: true, session: { command } });
			expect(report).toMatchObject({ phase: "session", exitCode: 0, outputTail: "--dry-run\n" });
			const failing = [script("dry-fails", "exit 69")];
			const [failed] = await dry({ dryRun: true, session: { command: failing, deadlineMs: 5_000 } });
			expect(failed).toMatchObject({ exitCode: 69, error: { code: "script-failed" } });
		});
	});
});
