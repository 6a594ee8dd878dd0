/** Servers as processes: which of them keep their data on what a job covers, also those of other mount namespaces. */
import { spawn } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeIsCovered } from "../../command-line/check/covered-folders.ts";
import { readProcesses } from "../../command-line/check/processes.ts";
import { databaseFindings } from "../../command-line/check/running-databases.ts";
import { findMountOf } from "../../platform/linux/mount-lookup.ts";
import { readMountTable } from "../../platform/linux/mount-table.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount", "setpriv");

describe.skipIf(missing)(`servers${missing ? `: ${missing}` : ""}`, () => {
	const stack = new AsyncDisposableStack();
	let folder: string;

	beforeAll(() => {
		folder = mkdtempSync("/var/lib/stillpoint-test-servers-");
		stack.defer(() => rmSync(folder, { recursive: true, force: true }));
		for (const name of ["data", "volume", "copy"]) mkdirSync(join(folder, name));
	});
	afterAll(() => stack.disposeAsync());

	/** Sleeps under the name of a server in a folder, after the shell commands. */
	function startServer(name: string, cwd: string, ...before: string[]): number {
		const program = join(folder, name);
		copyFileSync("/bin/sleep", program);
		chmodSync(program, 0o755);
		const script = [...before, `cd ${join(folder, cwd)}`, `exec ${program} 60`].join(" && ");
		const wrapped = before.length === 0 ? [] : ["unshare", "--mount", "--propagation", "private"];
		const words = ["--pdeathsig", "KILL", ...wrapped, "sh", "-c", script];
		const child = spawn("setpriv", words, { stdio: "ignore" });
		stack.defer(() => void child.kill("SIGKILL"));
		return child.pid ?? 0;
	}

	test("on what is covered are named, in a container too; one on a copy of its own is not", async () => {
		const pids = [
			startServer("redis-server", "data"),
			startServer("mariadbd", "volume", `mount --bind ${folder}/data ${folder}/volume`),
			startServer("mysqld", "copy", `mount -t tmpfs none ${folder}/copy`),
		];
		const read = async () => {
			const all = await readProcesses(
				(name) => /^(redis-server|mariadbd|mysqld)$/.test(name),
				AbortSignal.timeout(5_000),
			);
			return all.filter(({ pid }) => pids.includes(pid));
		};
		await poll(async () => (await read()).map(({ folder: at }) => at?.split("/").at(-1))).toEqual([
			"data",
			"volume",
			"copy",
		]);
		const processes = await read();
		const superblock = findMountOf(await readMountTable(), folder)?.superblock ?? "";
		const find = async (covered: string[]) =>
			databaseFindings(processes, [], await makeIsCovered(processes, new Set(covered))).map(({ what }) => what);
		expect(await find([superblock])).toEqual([
			expect.stringContaining(`(${folder}/volume of another mount namespace)`),
			expect.stringContaining(`(${folder}/data)`),
		]);
		expect(await find([])).toEqual([]);
	});
});
