import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkTrust } from "../../extensions/vm-snapshot-linux/script-runner/prepare-applications.ts";
import { recoverScripts } from "../../extensions/vm-snapshot-linux/script-runner/recover-scripts.ts";
import { newMark } from "../../extensions/vm-snapshot-linux/script-runner/script-step.ts";
import { openUndoList, readUndoFiles } from "../../extensions/vm-snapshot-linux/script-runner/undo-list.ts";
import { findProcessIdentity } from "../../platform/linux/process-identity.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { isAlive, makeScriptFolder, type ScriptFolder, scriptJob } from "../fixtures/script-bench.ts";

const lacking = requireTools("root");

describe.skipIf(lacking)(`what a run that was killed left of its scripts${lacking ? ` (${lacking})` : ""}`, () => {
	let folder: ScriptFolder;
	beforeAll(() => {
		folder = makeScriptFolder();
		chmodSync(join(folder.path, ".."), 0o755);
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

	/** What a run that is gone left of one application. */
	function leave(
		name: string,
		steps: readonly object[],
		owner: object = { pid: 2 ** 22 + 1, startTime: "1" },
	): { runFolder: string; path: string } {
		const runFolder = join(folder.runFolder, name);
		mkdirSync(join(runFolder, "undo"), { recursive: true, mode: 0o700 });
		const path = join(runFolder, "undo", `${name}.json`);
		const list = { version: 2, job: { ...scriptJob, jobId: name }, owner, steps };
		writeFileSync(path, JSON.stringify(list), { mode: 0o600 });
		return { runFolder, path };
	}
	const step = (name: string, body: string, more: object = {}) => ({
		application: name,
		deadlineMs: 30_000,
		post: { command: [script(`${name}-post`, body, 0o700)], deadlineMs: 30_000 },
		...more,
	});

	test.concurrent.each([
		["", {}],
		[" as its user", { runAs: "nobody" }],
	])("a post%s that a recovery began and did not end is ended before it runs again", async (how, more) => {
		const name = `begun${how.length}`;
		mkdirSync(path(name));
		chmodSync(path(name), 0o777);
		const begun = path(`${name}/pid`);
		const body = `trap "" TERM HUP\n[ -e ${begun} ] && { grep "^State:.[^ZX]" /proc/$(cat ${begun})/status 2> /dev/null; exit 0; }\necho $$ > ${begun}\nsleep 60`;
		const { runFolder } = leave(name, [step(name, body, { mark: newMark(), ...more })]);
		const program = join(import.meta.dirname, "../fixtures/recover-program.ts");
		const child = spawn(process.execPath, [program, runFolder], { stdio: "inherit" });
		const exited = new Promise((resolve) => child.once("exit", resolve));
		await poll(() => (existsSync(begun) ? readFileSync(begun, "utf8") : ""), 30_000).not.toBe("");
		child.kill("SIGKILL");
		await exited;
		const pid = Number(readFileSync(begun, "utf8"));
		expect(isAlive(pid)).toBe(true);
		const recovered = await recoverScripts(runFolder, checkTrust, () => undefined);
		expect(recovered[0]?.scripts).toMatchObject([{ phase: "post", exitCode: 0, outputTail: "" }]);
		expect(isAlive(pid)).toBe(false);
	});

	test.concurrent("of two recoveries at the same time one waits for the other, and finds nothing left", async () => {
		const begun = path("once");
		const { runFolder } = leave("once", [
			step("once", `echo $$ >> ${begun}\nwhile [ ! -e ${begun}.go ]; do sleep 0.05; done`),
		]);
		const program = join(import.meta.dirname, "../fixtures/recover-program.ts");
		const child = spawn(process.execPath, [program, runFolder], { stdio: "inherit" });
		const exited = new Promise((resolve) => child.once("exit", resolve));
		await poll(() => folder.read("once") ?? "", 30_000).not.toBe("");
		const other = recoverScripts(runFolder, checkTrust, () => undefined);
		expect(await Promise.race([other, new Promise((resolve) => setTimeout(resolve, 300, "waits"))])).toBe("waits");
		writeFileSync(`${begun}.go`, "");
		expect(await other).toEqual([]);
		expect(await exited).toBe(0);
		expect(folder.read("once")?.trim().split("\n").length).toBe(1);
		expect(existsSync(join(runFolder, "undo/once.json"))).toBe(false);
	});

	test("a run folder that is full does not keep the other applications from being let go", async () => {
		const { runFolder, path: list } = leave("full", [
			step("full-a", `echo > ${path("full-a")}`),
			step("full-b", `echo > ${path("full-b")}`),
		]);
		mkdirSync(`${list}.new`);
		const recovered = await recoverScripts(runFolder, checkTrust, () => undefined);
		expect(recovered[0]?.scripts).toMatchObject([
			{ name: "full-b", exitCode: 0 },
			{ name: "full-a", exitCode: 0 },
		]);
		expect([folder.read("full-a"), folder.read("full-b")]).toEqual(["\n", "\n"]);
		expect(existsSync(list)).toBe(false);
	});

	test("a job whose own process lives is left to that", async () => {
		const owner = findProcessIdentity(process.pid);
		const { runFolder, path: list } = leave("alive", [step("alive", `echo > ${path("alive")}`)], owner);
		expect(await recoverScripts(runFolder, checkTrust, () => undefined)).toEqual([]);
		expect(folder.read("alive")).toBeUndefined();
		expect(existsSync(list)).toBe(true);
	});

	test("as many applications as there may be can be read again, and no more is begun than that", async () => {
		const runFolder = join(folder.runFolder, "many");
		const list = openUndoList(runFolder, { ...scriptJob, jobId: "many" });
		const words = (bytes: number) => ["/bin/true", "x".repeat(bytes)];
		const given = (bytes: number) => ({
			application: "many",
			deadlineMs: 1,
			post: { command: words(bytes), deadlineMs: 1 },
		});
		for (let count = 0; count < 64; count += 1) list.add(given(64 * 1024));
		expect(readUndoFiles(runFolder, (error) => expect.unreachable(error.message))[0]?.content.steps.length).toBe(64);
		expect(() => list.add(given(64 * 1024 * 1024))).toThrow("MiB");
		expect(readUndoFiles(runFolder, () => undefined)[0]?.content.steps.length).toBe(64);
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
