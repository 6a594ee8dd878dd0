import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { configSchema, listConfigKeys } from "../../agent/config-schema.ts";
import { loadConfig, parseConfigText } from "../../agent/load-config.ts";

let folder: string;
beforeAll(() => {
	folder = mkdtempSync("/var/lib/stillpoint-test-config-");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(config: unknown): string {
	const path = join(folder, "agent.json");
	writeFileSync(path, typeof config === "string" ? config : JSON.stringify(config), { mode: 0o600 });
	return path;
}
const load = (config: unknown, environment: Record<string, string> = {}, flags = {}) =>
	loadConfig({ flags: { config: file(config), ...flags }, environment });

describe.skipIf(process.getuid?.() !== 0)("a configuration file", () => {
	test.each([
		["empty", "", /no JSON/],
		["cut off", '{"version":1,', /no JSON/],
		["a list", "[]", /one JSON object/],
		["null", "null", /one JSON object/],
		["without a version", {}, /version: is missing/],
		["of another version", { version: 2 }, /version/],
		["with a version as text", { version: "1" }, /version/],
		[
			"with an unknown key",
			{ version: 1, holdLimitMs: 1000 },
			/unknown key holdLimitMs; the nearest known one is holdLimitCapMs/,
		],
		["with an unknown inner key", { version: 1, log: { levl: "info" } }, /log\.levl.*log\.level/],
		["with an unknown group", { version: 1, fileSystem: {} }, /nearest known one is fileSystems/],
		["with a limit that is too large", { version: 1, holdLimitCapMs: 900_001 }, /holdLimitCapMs/],
		["with a limit that is too small", { version: 1, holdLimitCapMs: 99 }, /holdLimitCapMs/],
		["with half a millisecond", { version: 1, holdLimitCapMs: 100.5 }, /holdLimitCapMs/],
		["with a number as text", { version: 1, holdLimitCapMs: "1000" }, /holdLimitCapMs/],
		["with a relative folder", { version: 1, scriptsFolder: "scripts" }, /scriptsFolder.*absolute/],
		["with a filter that matches all", { version: 1, fileSystems: { exclude: [{}] } }, /fileSystems\.exclude\.0/],
		[
			"with a filter that is longer than any path",
			{ version: 1, fileSystems: { exclude: [{ mountPoint: `/${"a".repeat(70_000)}` }] } },
			/fileSystems\.exclude\.0\.mountPoint/,
		],
		[
			"with a filter of an unknown kind",
			{ version: 1, fileSystems: { exclude: [{ path: "/" }] } },
			/unknown key fileSystems\.exclude\.0\.path/,
		],
		["with a controller that is not https", { version: 1, controller: { url: "http://x" } }, /controller\.url/],
		["with an unknown log level", { version: 1, log: { level: "verbose" } }, /log\.level/],
		["with null for a value", { version: 1, tempDisks: null }, /tempDisks/],
		["with a key of the language", '{"version":1,"__proto__":{"x":1},"constructor":1}', /unknown key|one JSON/],
	])("that is %s is refused with the key", async (_what, config, message) => {
		await expect(load(config)).rejects.toMatchObject({
			code: "config-invalid",
			message: expect.stringMatching(message),
		});
	});

	test("that is named and missing is config-missing, which is not invalid", async () => {
		const flags = { config: join(folder, "absent.json") };
		await expect(loadConfig({ flags, environment: {} })).rejects.toMatchObject({ code: "config-missing" });
	});

	test("that is named and missing below a folder that nobody trusts, or below a file, is missing, too", async () => {
		const missing = { config: `/tmp/stillpoint-test-${process.pid}-absent.json` };
		await expect(loadConfig({ flags: missing, environment: {} })).rejects.toMatchObject({ code: "config-missing" });
		const below = { config: join(file({ version: 1 }), "agent.json") };
		await expect(loadConfig({ flags: below, environment: {} })).rejects.toMatchObject({ code: "config-missing" });
	});

	test("that is a folder is config-invalid", async () => {
		await expect(loadConfig({ flags: { config: folder }, environment: {} })).rejects.toMatchObject({
			code: "config-invalid",
		});
	});

	test("with the version alone gives every default", async () => {
		const { config, origins } = await load({ version: 1 });
		expect(config).toEqual(configSchema.parse({ version: 1 }));
		expect(config).toMatchObject({
			holdLimitCapMs: 60_000,
			log: { level: "info" },
			fileSystems: { include: [], exclude: [] },
		});
		expect(origins["holdLimitCapMs"]).toBe("default");
		expect(origins["version"]).toBe("file");
	});

	test("yields to the environment, and that to flags; each origin is known", async () => {
		const { config, folders, origins } = await load(
			{ version: 1, holdLimitCapMs: 1_000, log: { level: "warn", maxBytes: 100_000 }, tempDisks: ["sdb"] },
			{
				STILLPOINT_HOLD_LIMIT_CAP_MS: "2000",
				STILLPOINT_LOG_LEVEL: "debug",
				STILLPOINT_STATE_DIR: "/a",
				STILLPOINT_RUN_DIR: "/b",
			},
			{ runDir: "/c" },
		);
		expect(config).toMatchObject({
			holdLimitCapMs: 2_000,
			log: { level: "debug", maxBytes: 100_000 },
			tempDisks: ["sdb"],
		});
		expect(folders).toEqual({ stateDir: "/a", runDir: "/c", logDir: "/var/log/stillpoint" });
		expect(origins).toMatchObject({
			holdLimitCapMs: "environment",
			"log.level": "environment",
			"log.maxBytes": "file",
			tempDisks: "file",
			stateDir: "environment",
			runDir: "flag",
			logDir: "default",
		});
	});

	test("cannot be outdone by a bad variable: it is checked alike", async () => {
		await expect(load({ version: 1 }, { STILLPOINT_HOLD_LIMIT_CAP_MS: "5" })).rejects.toThrow(/holdLimitCapMs/);
		await expect(load({ version: 1 }, { STILLPOINT_TEMP_DISKS: "sdb" })).rejects.toThrow(
			/STILLPOINT_TEMP_DISKS is no JSON/,
		);
		await expect(load({ version: 1 }, { STILLPOINT_STATE_DIR: "here" })).rejects.toThrow(/absolute/);
	});
});

test("a strange variable of our prefix is a warning with the nearest one, not an error", async () => {
	const { warnings } = await loadConfig({ flags: {}, environment: { STILLPOINT_LOG_LEVL: "info", HOME: "/" } });
	expect(warnings).toEqual([expect.stringMatching(/STILLPOINT_LOG_LEVL.*STILLPOINT_LOG_LEVEL/)]);
});

test("every key has a description and a variable of its own", () => {
	const variables = listConfigKeys().map(({ variable }) => variable);
	expect(new Set(variables).size).toBe(variables.length);
	expect(variables).toContain("STILLPOINT_EXTENSIONS_INSTALL_FROM");
});

test("text that holds an object with a version is read as it stands", () => {
	expect(parseConfigText('{"version":1,"x":2}', "f")).toEqual({ version: 1, x: 2 });
});
