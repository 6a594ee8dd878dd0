/** `stillpoint snapshot` and `stillpoint thaw` as processes, on a loop file system, beside the real agent. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../fixtures/agent-process.ts";
import { freeze, type LoopFileSystem, makeLoopFileSystem, startGuard, thaw } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { processTree } from "../fixtures/process-states.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { makeSourceExtension } from "../fixtures/source-extension.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze");
const entry = resolve(import.meta.dirname, "../../command-line/stillpoint.ts");

describe.skipIf(missing)(`an order of an admin${missing ? `: ${missing}` : ""}`, () => {
	const stack = new AsyncDisposableStack();
	let folders: AgentFoldersFixture;
	let fileSystem: LoopFileSystem;
	let agent: AgentProcess;

	beforeAll(async () => {
		folders = stack.use(makeAgentFolders());
		stack.use(startGuard({ dir: folders.root, limitMs: 170_000 }));
		fileSystem = stack.use(
			await makeLoopFileSystem({ dir: folders.root, fsType: "ext4", sizeMiB: 64, name: "machine" }),
		);
		folders.writeConfig({
			extensions: { installFrom: [makeSourceExtension(folders.root)] },
			fileSystems: { include: [{ mountPoint: fileSystem.mountPoint }] },
			scriptsFolder: join(folders.root, "no-scripts"),
			otherScripts: { azureFolder: join(folders.root, "azure"), qemuHookFolders: [], vmwareHookFolders: [] },
		});
		agent = await startAgent(folders);
		stack.defer(() => agent[Symbol.asyncDispose]());
	});
	afterAll(() => stack.disposeAsync());

	function words(...more: string[]): string[] {
		// This machine's own disks are not the test's: an order always names the loop.
		return ["snapshot", "--run-dir", folders.flags.runDir, "--disk", basename(fileSystem.device), ...more];
	}

	async function snapshot(...more: string[]) {
		const ended = await execa(process.execPath, [entry, ...words("--json", ...more)], {
			reject: false,
			timeout: 30_000,
		});
		expect(ended.stdout.split("\n")).toHaveLength(1);
		return { report: JSON.parse(ended.stdout), exitCode: ended.exitCode };
	}

	test("the command of --run runs while the disk is still", async () => {
		// A second freeze is refused as long as one holds.
		const { report, exitCode } = await snapshot(
			"--level",
			"file-system",
			"--run",
			`! fsfreeze -f ${fileSystem.mountPoint}`,
		);
		expect(report).toMatchObject({ schemaVersion: 1, achieved: null, held: "file-system" });
		expect([report.error, exitCode]).toEqual([undefined, 0]);
		expect(await thaw(fileSystem.mountPoint)).toBe(false);
	});

	test("weaker than asked ends with 3", async () => {
		const { report, exitCode } = await snapshot("--level", "application", "--hold-ms", "0");
		expect([report.held, exitCode]).toEqual(["file-system", 3]);
	});

	test("how long an order will hold counts against its stall budget", async () => {
		const level = ["--level", "file-system"];
		const refused = await snapshot(...level, "--hold-ms", "3000", "--stall-budget-ms", "2500");
		expect(refused.report.error).toMatchObject({ code: "stall-too-long" });
		expect(refused.report.error.message).toContain("3000 ms for the snapshot itself");
		const { report, exitCode } = await snapshot(...level, "--hold-ms", "5", "--stall-budget-ms", "2500");
		expect([report.error, report.held, exitCode]).toEqual([undefined, "file-system", 0]);
		expect(report.window.predictedStallMs).toBeGreaterThan(5);
	});

	test.each([
		["that fails", "exit 7", "snapshot-failed", 8],
		["that outlives the hold", "sleep 60", "hold-expired", 6],
		["that writes to what is frozen", "echo x > MOUNT/own", "hold-expired", 6],
	])("a command %s fails the job, and the disk is thawed", async (_what, command, code, status) => {
		const run = command.replace("MOUNT", fileSystem.mountPoint);
		const { report, exitCode } = await snapshot("--limit-ms", "2000", "--run", run);
		expect([report.error?.code, exitCode]).toEqual([code, status]);
		expect(await thaw(fileSystem.mountPoint)).toBe(false);
	});

	test("where Azure's configuration says fsFreezeEnabled=false nothing is frozen, and nothing but crash is said", async () => {
		const azure = join(folders.root, "azure");
		await using undo = new AsyncDisposableStack();
		undo.defer(() => rm(azure, { recursive: true }));
		await mkdir(azure);
		const told = join(folders.root, "told");
		const locations = { preScriptLocation: join(azure, "pre"), postScriptLocation: join(azure, "post") };
		for (const script of Object.values(locations)) {
			const text = `#!/bin/sh\necho $STILLPOINT_PHASE $STILLPOINT_OUTCOME >> ${told}\n`;
			await writeFile(script, text, { mode: 0o700 });
		}
		const configPath = join(azure, "VMSnapshotScriptPluginConfig.json");
		await writeFile(configPath, JSON.stringify({ ...locations, fsFreezeEnabled: false }), { mode: 0o600 });
		const refused = await snapshot("--hold-ms", "0");
		expect([refused.report.error?.code, refused.exitCode]).toEqual(["level-unreachable", 8]);
		expect(refused.report.error.message).toContain(`${configPath}: fsFreezeEnabled is false`);
		// Freezes of others succeed, and writes go through.
		const run = `fsfreeze -f ${fileSystem.mountPoint} && fsfreeze -u ${fileSystem.mountPoint}`;
		const { report, exitCode } = await snapshot("--accept", "crash", "--run", run);
		expect(report).toMatchObject({ held: "crash", because: ["freeze-disabled"] });
		expect([report.error, exitCode]).toEqual([undefined, 3]);
		expect(await readFile(told, "utf8")).toBe("pre\npost unknown\n");
	});

	async function begin(...more: string[]) {
		const child = spawn(process.execPath, [entry, ...words("--json", "--level", "file-system", ...more)], {
			stdio: ["ignore", "pipe", "ignore"],
			detached: true,
		});
		let stdout = "";
		child.stdout.setEncoding("utf8").on("data", (text: string) => {
			stdout += text;
		});
		const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
		return { child, ended, document: () => JSON.parse(stdout) };
	}

	test("Ctrl-C during the hold undoes it and ends with 130", async () => {
		const mark = join(folders.root, "held");
		const asker = await begin("--limit-ms", "20000", "--run", `touch ${mark}; sleep 60`);
		await poll(() => existsSync(mark), 20_000).toBe(true);
		process.kill(-(asker.child.pid as number), "SIGINT");
		expect(await asker.ended).toBe(130);
		expect(asker.document().error.code).toBe("cancelled");
		expect(await thaw(fileSystem.mountPoint)).toBe(false);
	});

	test("thaw works when all of ours were killed at once, and leaves a foreign freeze alone", async () => {
		const mark = join(folders.root, "held-again");
		const asker = await begin("--limit-ms", "60000", "--run", `touch ${mark}; sleep 60`);
		await poll(() => existsSync(mark), 20_000).toBe(true);
		const all = processTree(agent.pid);
		for (const signal of ["SIGSTOP", "SIGKILL"]) for (const pid of all) process.kill(pid, signal);
		expect(await asker.ended).toBe(4);
		expect(asker.document().error).toMatchObject({
			code: "agent-unreachable",
			message: expect.stringContaining("stillpoint thaw"),
		});
		const rescue = () => execa(process.execPath, [entry, "thaw", "--run-dir", folders.flags.runDir, "--json"]);
		expect(JSON.parse((await rescue()).stdout).fileSystems).toMatchObject([
			{ mountPoint: fileSystem.mountPoint, result: "thawed" },
		]);
		await freeze(fileSystem.mountPoint);
		expect(JSON.parse((await rescue()).stdout).fileSystems).toEqual([]);
		expect(await thaw(fileSystem.mountPoint)).toBe(true);
	});
});
