import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkTrust } from "../../extensions/vm-snapshot-linux/script-runner/prepare-applications.ts";
import { recoverScripts } from "../../extensions/vm-snapshot-linux/script-runner/recover-scripts.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { isAlive, makeScriptFolder, type ScriptFolder, scriptJob } from "../fixtures/script-bench.ts";

const lacking = requireTools("root");

describe.skipIf(lacking)(`what a run that was killed left of its scripts${lacking ? ` (${lacking})` : ""}`, () => {
	let folder: ScriptFolder;
	beforeAll(() => {
		folder = makeScriptFolder();
	});
	afterAll(() => folder[Symbol.dispose]());

	const path = (name: string) => join(folder.path, name);
	const script = (name: string, body: string, mode = 0o755) => folder.write(name, `#!/bin/sh\n${body}\n`, mode);
	const findPid = (name: string) => Number(folder.read(name) ?? "0");

	/** Makes an application quiet in a process of its own, which is then killed, and recovers what it left. */
	async function killAndRecover(name: string, content: Record<string, unknown>, changes: object, until: () => boolean) {
		const runFolder = join(folder.runFolder, name);
		mkdirSync(runFolder, { mode: 0o700 });
		const job = { ...scriptJob, jobId: name };
		const program = join(import.meta.dirname, "../fixtures/quiet-and-wait-program.ts");
		const child = spawn(process.execPath, [program, JSON.stringify({ name, content, changes, runFolder, job })], {
			stdio: "inherit",
		});
		const exited = new Promise((resolve) => child.once("exit", resolve));
		await poll(until, 30_000).toBe(true);
		child.kill("SIGKILL");
		await exited;
		const undo = JSON.parse(readFileSync(join(runFolder, "undo", `${name}.json`), "utf8"));
		const faults: string[] = [];
		const recovered = await recoverScripts(runFolder, checkTrust, ({ message }) => void faults.push(message));
		expect(faults).toEqual([]);
		expect(existsSync(join(runFolder, "undo", `${name}.json`))).toBe(false);
		return { undo, recovered, runFolder };
	}

	test.concurrent("a pre that went on elsewhere is ended, and its post is told that it was interrupted", async () => {
		const inner = script("away", `trap "" TERM HUP\necho $$ > ${path("away.pid")}\nwhile :; do sleep 0.1; done`);
		const pre = { command: [script("pre", `setsid sh ${inner} > /dev/null 2>&1 &\nsleep 60`)] };
		const post = { command: [script("post", `cat > ${path("post.told")}\necho "$STILLPOINT_OUTCOME"`)], retries: 1 };
		const { recovered } = await killAndRecover("interrupted", { pre, post }, {}, () => findPid("away.pid") > 0);
		expect(isAlive(findPid("away.pid"))).toBe(false);
		expect(recovered).toMatchObject([
			{ jobId: "interrupted", scripts: [{ phase: "post", exitCode: 0, attempts: 1, outputTail: "interrupted\n" }] },
		]);
		const told = JSON.parse(folder.read("post.told") ?? "");
		expect(told).toMatchObject({ phase: "post", outcome: "interrupted", fileSystems: scriptJob.fileSystems });
		expect(told.recoveryPoint).toBeUndefined();
	});

	test.concurrent("what a pre keeps is ended after its post, which is the one for no snapshot", async () => {
		const pre = {
			command: [
				script(
					"keeps",
					`sh -c 'echo $$ > ${path("kept.pid")}; exec sleep 60' &\nwhile [ ! -s ${path("kept.pid")} ]; do sleep 0.02; done`,
				),
			],
		};
		const post = { command: [script("thaw", "echo thaw")] };
		const without = [script("freeze-fail", `kill -0 $(cat ${path("kept.pid")}) && echo it is there`)];
		const changes = { keepsProcesses: true, commandWithoutSnapshot: without };
		const isQuiet = () => existsSync(join(folder.runFolder, "kept/quiet"));
		const { recovered } = await killAndRecover("kept", { pre, post }, changes, isQuiet);
		expect(recovered[0]?.scripts).toMatchObject([{ exitCode: 0, outputTail: "it is there\n" }]);
		expect(isAlive(findPid("kept.pid"))).toBe(false);
	});

	test.concurrent("a session lets go by itself, its copy is removed, and its post runs as its user", async () => {
		const body = `read -r input\necho ready\nread -r word\nsleep 0.2\nexit 0`;
		const session = { command: [script("session", body, 0o700)] };
		const post = { command: [script("session-post", "id -un", 0o700)] };
		const isQuiet = () => existsSync(join(folder.runFolder, "session/quiet"));
		const content = { runAs: "nobody", session, post };
		const { recovered, undo, runFolder } = await killAndRecover("session", content, {}, isQuiet);
		expect(undo).toMatchObject({ version: 2, steps: [{ isSession: true, runAs: "nobody", phase: "session" }] });
		expect(recovered[0]?.scripts).toMatchObject([{ phase: "post", outputTail: "nobody\n" }]);
		expect(existsSync(join(runFolder, "scripts", `${undo.steps[0].mark}.session`))).toBe(false);
	});

	test("a list of the former version is worked off, and one that is no list is told and left", async () => {
		const runFolder = join(folder.runFolder, "former");
		mkdirSync(join(runFolder, "undo"), { recursive: true, mode: 0o700 });
		const post = {
			command: [script("former-post", `echo "$STILLPOINT_OUTCOME" > ${path("former")}`)],
			deadlineMs: 30_000,
		};
		const { fileSystems: _, ...job } = scriptJob;
		const noProcess = { pid: 2 ** 22 + 1, startTime: "1" };
		const list = {
			version: 1,
			job,
			owner: noProcess,
			steps: [{ application: "a", deadlineMs: 1, process: noProcess, post }],
		};
		const write = (name: string, content: unknown) =>
			writeFileSync(join(runFolder, "undo", `${name}.json`), JSON.stringify(content), { mode: 0o600 });
		write("job-1", list);
		write("job-2", { ...list, version: 3 });
		write("job-3", { ...list, steps: [{ ...list.steps[0], unknown: true }] });
		const faults: string[] = [];
		const recovered = await recoverScripts(runFolder, checkTrust, ({ message }) => void faults.push(message));
		expect(recovered).toMatchObject([{ jobId: "job-1", scripts: [{ phase: "post", exitCode: 0 }] }]);
		expect(folder.read("former")).toBe("interrupted\n");
		expect(faults.length).toBe(2);
		expect(faults.join("\n")).toContain("job-2.json");
		expect(existsSync(join(runFolder, "undo/job-3.json"))).toBe(true);
	});
});
