/** The real executable as a process: what stands on stdout, what on stderr, and how it ends. */
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ErrorCode, errorCatalogue } from "../../contracts/errors.ts";
import { expectDocument } from "../fixtures/expect-document.ts";

const entry = join(import.meta.dirname, "../../command-line/stillpoint.ts");
const isRoot = process.getuid?.() === 0;
let folder: string;

beforeAll(async () => {
	folder = await mkdtemp("/dev/shm/stillpoint-test-cli-");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function stillpoint(...words: string[]) {
	return execa(process.execPath, [entry, ...words], { reject: false, timeout: 20_000, stdin: "ignore" });
}

describe("the executable", () => {
	test.each([[], ["agent"], ["controller"], ["controller", "agents"], ["snapshot"], ["controller", "snapshot"]])(
		"%s --help is on stdout and ends with 0",
		async (...words) => {
			const { stdout, stderr, exitCode } = await stillpoint(...words.filter(Boolean), "--help");
			expect(stdout).toContain("Usage: stillpoint");
			expect([stderr, exitCode]).toEqual(["", 0]);
		},
	);

	const token = `stillpoint1.id.secret.${"0".repeat(64)}`;
	const failures: [ErrorCode, string[]][] = [
		["usage-invalid", []],
		["usage-invalid", ["nonsense"]],
		["usage-invalid", ["agent"]],
		["usage-invalid", ["status", "--frobnicate"]],
		["usage-invalid", ["report", "one", "two"]],
		["usage-invalid", ["snapshot", "--level", "none"]],
		["usage-invalid", ["snapshot", "--limit-ms", "soon", "--run-dir", "FOLDER/no-agent"]],
		["usage-invalid", ["snapshot", "--limit-ms", "", "--run-dir", "FOLDER/no-agent"]],
		["usage-invalid", ["snapshot", "--hold-ms", "1.5", "--run-dir", "FOLDER/no-agent"]],
		["usage-invalid", ["snapshot", "--hold-ms", "5000", "--limit-ms", "200", "--run-dir", "FOLDER/no-agent"]],
		["usage-invalid", ["snapshot", "--disk", "a", "--exclude", "b", "--run-dir", "FOLDER/no-agent"]],
		["usage-invalid", ["snapshot", "--job-id", "../x", "--run-dir", "FOLDER/no-agent"]],
		["agent-unreachable", ["status", "--run-dir", "FOLDER/no-agent"]],
		["agent-unreachable", ["report", "--run-dir", "FOLDER/no-agent"]],
		["agent-unreachable", ["snapshot", "--disk", "loop9999", "--run-dir", "FOLDER/no-agent"]],
		["usage-invalid", ["controller", "run", "--port", "70000"]],
		["usage-invalid", ["controller", "token", "--valid-hours", "x", "--state-dir", "FOLDER/no-controller"]],
		["usage-invalid", ["controller", "snapshot"]],
		["usage-invalid", ["controller", "agents", "map", "a", "vda", "--state-dir", "FOLDER/no-controller"]],
		["controller-unreachable", ["controller", "agents", "--state-dir", "FOLDER/no-controller"]],
		["controller-unreachable", ["controller", "agents", "map", "a", "vda=/x", "--state-dir", "FOLDER/no-controller"]],
		["controller-unreachable", ["controller", "agents", "status", "a", "--state-dir", "FOLDER/no-controller"]],
		["controller-unreachable", ["controller", "snapshot", "a", "--state-dir", "FOLDER/no-controller"]],
		["controller-unreachable", ["controller", "jobs", "--state-dir", "FOLDER/no-controller"]],
		["controller-unreachable", ["controller", "verify", "rp", "--state-dir", "FOLDER/no-controller"]],
	];
	const asRoot: [ErrorCode, string[]][] = [
		["not-found", ["thaw", "--run-dir", "FOLDER/mistyped"]],
		["config-missing", ["agent", "run", "--config", "FOLDER/no.json"]],
		["usage-invalid", ["agent", "enrol", "--controller", "http://x", "--token", token, "--state-dir", "FOLDER"]],
		["token-invalid", ["agent", "enrol", "--controller", "https://x", "--token", "y", "--state-dir", "FOLDER"]],
		[
			"controller-unreachable",
			["agent", "enrol", "--controller", "https://127.0.0.1:1", "--token", token, "--state-dir", "FOLDER"],
		],
	];

	test.each([...failures, ...(isRoot ? asRoot : [])])(
		"%s is one document and its status: %j",
		async (code, template) => {
			const words = template.map((word) => word.replace("FOLDER", folder));
			const { exit, remedy } = errorCatalogue[code];
			const forPrograms = await stillpoint(...words, "--json");
			expect(forPrograms.stdout.split("\n")).toHaveLength(1);
			expect(JSON.parse(forPrograms.stdout)).toMatchObject({ schemaVersion: 1, error: { code, remedy } });
			expect(forPrograms.exitCode).toBe(exit);
			const forPeople = await stillpoint(...words);
			expect(forPeople.stdout).toBe("");
			expect(forPeople.stderr).toContain(`stillpoint: ${code}: `);
			expect(forPeople.stderr).toContain(remedy);
			expect(forPeople.exitCode).toBe(exit);
		},
	);

	test.skipIf(!isRoot)("thaw works without an agent and says that nothing of ours is frozen", async () => {
		expect(JSON.parse((await stillpoint("thaw", "--run-dir", folder, "--json")).stdout)).toEqual({
			schemaVersion: 1,
			fileSystems: [],
		});
	});

	test.each(["SIGTERM", "SIGINT"] as const)("controller run ends with 0 after %s", async (signal) => {
		const state = await mkdtemp(join(folder, "controller-"));
		const words = ["controller", "run", "--state-dir", state, "--port", "0", "--json"];
		const child = spawn(process.execPath, [entry, ...words], { stdio: ["ignore", "pipe", "ignore"] });
		const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
		const first = await new Promise<string>((resolve) => child.stdout.once("data", (text) => resolve(String(text))));
		expect(expectDocument("controller run", first)).toMatchObject({ url: expect.stringContaining("https://") });
		// The same options reach every command of a group.
		const token = await stillpoint("controller", "token", "--state-dir", state);
		expect(token.stdout).toMatch(/^stillpoint1\./);
		const map = await stillpoint("controller", "agents", "map", "nosuch", "vda=/x", "--state-dir", state, "--json");
		expect([JSON.parse(map.stdout).error.code, map.exitCode]).toEqual(["not-found", 2]);
		child.kill(signal);
		expect(await ended).toBe(0);
	});
});
