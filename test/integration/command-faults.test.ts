/** What goes wrong around a command: a full disk below its output, a signal, an agent that says nothing, odd paths. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectToReadAgent } from "../../command-line/local-agent.ts";
import { runInMemory } from "../fixtures/memory-context.ts";
import { stillpointEntry } from "../fixtures/pseudo-terminal.ts";
import { requireTools } from "../fixtures/required-tools.ts";

let folder: string;
let silent: Server;
let heard = Promise.withResolvers<void>();

beforeAll(async () => {
	folder = mkdtempSync("/dev/shm/stillpoint-test-faults-");
	mkdirSync(join(folder, "run"), { mode: 0o700 });
	writeFileSync(join(folder, "agent.json"), '{"version":1}', { mode: 0o600 });
	silent = createServer((socket) => {
		socket.on("error", () => {});
		socket.on("data", () => heard.resolve());
	});
	await new Promise<void>((resolve) => silent.listen(join(folder, "run", "agent.sock"), resolve));
});
afterAll(() => {
	silent.close();
	rmSync(folder, { recursive: true, force: true });
});

type Ended = { status: number | null; stdout: string; stderr: string };

/** @param onto a file that stdout goes to, instead of a pipe */
function start(words: readonly string[], onto?: string) {
	const stdout = onto === undefined ? "pipe" : openSync(onto, "w");
	const child = spawn(process.execPath, [stillpointEntry, ...words], { stdio: ["ignore", stdout, "pipe"] });
	const said = { stdout: "", stderr: "" };
	child.stdout?.setEncoding("utf8").on("data", (text: string) => (said.stdout += text));
	child.stderr?.setEncoding("utf8").on("data", (text: string) => (said.stderr += text));
	const ended = new Promise<Ended>((resolve) => child.once("close", (status) => resolve({ status, ...said })));
	return { child, ended };
}

describe("an answer that cannot be written", () => {
	test("is no success, for people or programs", async () => {
		const calls = [["explain", "3"], ["explain", "3", "--json"], ["--help"]];
		for (const { status, stderr } of await Promise.all(calls.map((words) => start(words, "/dev/full").ended)))
			expect([status, stderr]).toEqual([74, expect.stringMatching(/output-failed.*\n.*ENOSPC/)]);
		expect((await start(["explain", "3"], "/dev/null").ended).status).toBe(0);
	});

	test("does not hide a graver end", async () => {
		const { status } = await start(["status", "--run-dir", join(folder, "none"), "--json"], "/dev/full").ended;
		expect(status).toBe(4);
	});
});

describe.skipIf(requireTools("root"))("a signal while a command waits", () => {
	test.each([
		["SIGINT", 130, []],
		["SIGTERM", 143, ["--json"]],
	] as const)("%s ends it with %i, and with no trace of a bug", async (signal, status, more) => {
		heard = Promise.withResolvers();
		const where = ["--run-dir", join(folder, "run"), "--state-dir", join(folder, "state")];
		const { child, ended } = start(["check", "--disk", "loop9999", ...where, ...more]);
		await heard.promise;
		child.kill(signal);
		const { status: found, stdout, stderr } = await ended;
		expect(found).toBe(status);
		if (more.length === 0) expect(stderr).toMatch(/^(stillpoint: terminated: .*)$/m);
		else expect([JSON.parse(stdout).error.code, stderr]).toEqual(["terminated", ""]);
		expect(stderr).not.toMatch(/^\s+at |internal/m);
	});
});

test("an agent that listens and says nothing is named as one that hangs", async () => {
	await using agent = await connectToReadAgent(join(folder, "run"), "status", new AbortController().signal);
	const told = { code: "agent-unreachable", message: expect.stringContaining("did not answer agent.status in time") };
	await expect(agent.call("agent.status", {}, { limitMs: 50 })).rejects.toMatchObject(told);
	// What is not told from memory may rightly take long.
	const slow = agent.call("link.reload", {}, { limitMs: 50 });
	await expect(slow).rejects.toMatchObject({ code: "deadline-passed" });
});

describe("paths", () => {
	const none = "no agent listens on";

	test("are taken from the folder of the call, in every command", async () => {
		const here = (name: string) => relative(process.cwd(), join(folder, name));
		const { stdout } = await runInMemory(["config", "check", here("agent.json"), "--json"]);
		expect(JSON.parse(stdout).configFile).toBe(join(folder, "agent.json"));
		const shown = await runInMemory(["config", "show", "--config", here("lost.json")]);
		expect(shown.stderr).toContain(`${join(folder, "lost.json")} does not exist`);
		const jobs = await runInMemory(["jobs", "--run-dir", here("nowhere")]);
		expect(jobs.stderr).toContain(`${none} ${join(folder, "nowhere")}/agent.sock`);
	});

	test("that are empty are no folder, and those of a variable must be whole", async () => {
		expect(await runInMemory(["jobs", "--run-dir", ""])).toMatchObject({ status: 2 });
		const { stderr } = await runInMemory(["config", "show"], { environment: { STILLPOINT_CONFIG: "agent.json" } });
		expect(stderr).toContain("STILLPOINT_CONFIG must be an absolute path");
	});

	test.each([["status"], ["jobs"], ["report"], ["extensions"], ["snapshot"]])(
		"%s finds the run folder where the agent of the same environment has it",
		async (word) => {
			const environment = { STILLPOINT_RUN_DIR: join(folder, "elsewhere") };
			expect((await runInMemory([word], { environment })).stderr).toContain(`${none} ${folder}/elsewhere/agent.sock`);
		},
	);
});

test.each([
	[["status", "--frobnicate"], "stillpoint status --help"],
	[["controller", "agents", "map"], "stillpoint controller agents map --help"],
	[["agent", "enroll"], "stillpoint agent enroll --help"],
])("what was not understood names the help that tells: %j", async (words, hint) => {
	expect((await runInMemory(words)).stderr).toContain(`see: ${hint}`);
});
