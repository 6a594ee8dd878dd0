import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findSuspects } from "../../platform/linux/ledger-suspects.ts";
import { thawFromLedgers } from "../../platform/linux/rescue-thaw.ts";
import { makeAgentFolders, startAgent } from "../fixtures/agent-process.ts";
import { type BadFile, badFiles, strangeFiles } from "../fixtures/bad-files.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");
const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
/** Names no file system: nothing is touched for it. */
const empty = { schemaVersion: 1, jobId: "job-1", bootId, freezer: { pid: 2 ** 22, startTime: "1" }, fileSystems: [] };

const wrong = (name: string, content: unknown, says: RegExp): BadFile => ({
	name,
	put: (path) => writeFileSync(path, JSON.stringify(content)),
	says,
});
const faults: readonly BadFile[] = [
	...badFiles,
	...strangeFiles,
	wrong("one with an unknown key", { ...empty, x: 1 }, /unknown key "x"/),
	wrong("one of another version", { ...empty, schemaVersion: 2 }, /schemaVersion: /),
	wrong("one whose process is a word", { ...empty, freezer: { pid: "1", startTime: "1" } }, /freezer\.pid: /),
	// kill(-1) would reach everything, and kill(0) ourselves.
	wrong("one whose process is everybody", { ...empty, freezer: { pid: -1, startTime: "1" } }, /freezer\.pid: /),
];

describe.skipIf(missing)(`a ledger that is none${missing ? `: ${missing}` : ""}`, () => {
	let root: string;
	let runDir: string;
	let path: string;

	beforeEach(() => {
		root = mkdtempSync("/dev/shm/stillpoint-test-ledger-");
		runDir = join(root, "run");
		mkdirSync(join(runDir, "freezes"), { recursive: true, mode: 0o700 });
		path = join(runDir, "freezes", "job-1.json");
	});
	afterEach(() => rmSync(root, { recursive: true, force: true }));

	test.each(faults.map((one) => [one.name, one] as const))("%s: told with the way out, left alone", async (_, bad) => {
		bad.put(path);
		const results = await thawFromLedgers(runDir);
		expect(results).toMatchObject([{ jobId: "job-1", result: "thaw-failed", ledger: path }]);
		expect(results[0]?.detail).toMatch(bad.says);
		expect(results[0]?.detail).toContain(`fsfreeze -u`);
		expect(results[0]?.detail).toContain(`rm -r ${path}`);
		expect(existsSync(path)).toBe(true);
		// Who looks at it while disks are held must not hang, either; it tells nothing, so all are suspect.
		const folders = [{ target: { superblock: "1:1" } }] as never[];
		expect(findSuspects(path, folders)).toBe(folders);
	});

	test("one does not keep another from being read", async () => {
		writeFileSync(path, "torn");
		writeFileSync(join(runDir, "freezes", "job-2.json"), JSON.stringify({ ...empty, jobId: "job-2" }));
		expect(await thawFromLedgers(runDir)).toHaveLength(1);
		expect(readdirSync(join(runDir, "freezes"))).toEqual(["job-1.json"]);
	});

	test("one of another boot is removed without a word", async () => {
		writeFileSync(path, JSON.stringify({ ...empty, bootId: "another" }));
		expect(await thawFromLedgers(runDir)).toEqual([]);
		expect(existsSync(path)).toBe(false);
	});

	test.each(faults.map((one) => [one.name, one] as const))(
		"%s: the agent does not start, and says what to do; without it, it does",
		async (_name, bad) => {
			await using stack = new AsyncDisposableStack();
			const folders = stack.use(makeAgentFolders());
			const freezes = join(folders.flags.runDir, "freezes");
			mkdirSync(freezes, { recursive: true, mode: 0o700 });
			const ledger = join(freezes, "job-1.json");
			bad.put(ledger);
			const refused = await startAgent(folders);
			const { exitCode, output } = await refused.exited;
			expect(exitCode).toBe(9);
			const { code, message } = JSON.parse(output);
			expect(code).toBe("ledger-invalid");
			expect(message).toContain(ledger);
			expect(message).toMatch(bad.says);
			expect(message).toContain("fsfreeze -u");
			expect(existsSync(folders.flags.stateDir)).toBe(false);
			rmSync(ledger, { recursive: true });
			const again = stack.use(await startAgent(folders));
			again.child.kill("SIGTERM");
			expect(await again.exited).toMatchObject({ exitCode: 0, output: "ready\n" });
		},
	);
});
