import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkConfig, showConfig } from "../../agent/check-config.ts";
import { listConfigKeys } from "../../agent/config-schema.ts";
import { findKeyLines } from "../../agent/json-lines.ts";
import { loadConfig } from "../../agent/load-config.ts";

let folder: string;
beforeAll(() => {
	folder = mkdtempSync("/var/lib/stillpoint-test-config-");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let count = 0;
function file(text: string, mode = 0o600): string {
	count += 1;
	const path = join(folder, `agent-${count}.json`);
	writeFileSync(path, text, { mode });
	return path;
}
const given = (text: string, environment: Record<string, string> = {}) => ({
	flags: { config: file(text) },
	environment,
});

describe("lines of keys", () => {
	test("are found through nesting, lists, strings with braces and escapes", () => {
		const text = '{\n"a": {"b":\n[1,\n{"c": "}\\"{,"}]},\n"d\\u0065":\n2, "a": 3\n}';
		const { lines, twice } = findKeyLines(text);
		expect(Object.fromEntries(lines)).toEqual({ a: 6, "a.b": 2, "a.b.0": 3, "a.b.1": 4, "a.b.1.c": 4, de: 5 });
		expect(twice).toEqual([{ key: "a", line: 6 }]);
	});

	test("below a key that is longer than any of ours are not kept for each element", () => {
		const { lines } = findKeyLines(`{"a":1,"${"k".repeat(200_000)}":[${Array(100_000).fill(0).join()}]}`);
		expect([...lines]).toEqual([["a", 1]]);
	});

	test("of what is no JSON, or nested without end, are looked for without a fault", () => {
		for (const text of ["", "{", '{"a"', "]]]", "\u0000", '{"a":}', "[".repeat(200_000), '{"a":'.repeat(100_000)])
			expect(() => findKeyLines(text)).not.toThrow();
	});
});

describe.skipIf(process.getuid?.() !== 0)("config check", () => {
	test("names every fault at once, with its line or variable and the nearest key", async () => {
		const text = `{
  "version": 1,
  "holdLimitMs": 5,
  "log": { "levl": "info",
    "maxBytes": 1 },
  "tempDisks": ["a", 7],
  "stopLimitMs": 1000, "stopLimitMs": 2000
}`;
		const { faults, warnings } = await checkConfig(
			given(text, {
				STILLPOINT_SCRIPTS_FOLDER: "here",
				STILLPOINT_EXTENSIONS_INSTALL_FROM: "x",
				STILLPOINT_RUN_DIR: "run",
				STILLPOINT_LOG: "x",
			}),
		);
		expect(faults).toEqual(
			expect.arrayContaining([
				{ key: "holdLimitMs", what: "unknown key", nearest: "holdLimitCapMs", line: 3 },
				{ key: "log.levl", what: "unknown key", nearest: "log.level", line: 4 },
				expect.objectContaining({ key: "log.maxBytes", line: 5 }),
				expect.objectContaining({ key: "tempDisks.1", line: 6 }),
				expect.objectContaining({ key: "scriptsFolder", variable: "STILLPOINT_SCRIPTS_FOLDER" }),
				expect.objectContaining({ key: "extensions.installFrom", variable: "STILLPOINT_EXTENSIONS_INSTALL_FROM" }),
				expect.objectContaining({ what: expect.stringContaining("STILLPOINT_RUN_DIR must be an absolute path") }),
			]),
		);
		expect(faults).toHaveLength(7);
		expect(warnings).toEqual([
			expect.stringContaining("STILLPOINT_LOG is not ours"),
			expect.stringMatching(/:7: stopLimitMs stands there for the second time/),
		]);
	});

	test.each([
		["no JSON", '{\n"version": 1,\n}', { key: "(file)", line: 3 }],
		["a list", "[]", { key: "(file)" }],
		["without version", "{}", { what: expect.stringContaining("version") }],
		["of another version", '{"version":2}', { key: "version", line: 1 }],
	])("that is %s says so", async (_what, text, fault) => {
		expect((await checkConfig(given(text))).faults).toEqual([expect.objectContaining(fault)]);
	});

	test("of a file that others can write to says that and what is in it; one that is not there is no fault", async () => {
		const flags = { config: file('{"version":1,"x":1}', 0o600) };
		const { chmodSync } = await import("node:fs");
		chmodSync(flags.config, 0o666);
		expect((await checkConfig({ flags, environment: {} })).faults.map(({ key }) => key)).toEqual(["(file)", "x"]);
		await expect(checkConfig({ flags: { config: "/nowhere.json" }, environment: {} })).rejects.toMatchObject({
			code: "config-missing",
		});
	});

	test.each([
		"{}",
		'{"version":1}',
		'{"version":1,"protection":{"maxAgeMs":null}}',
		'{"version":1,"protection":{"level":"none"}}',
		'{"version":1,"protection":{"maxAgeMs":1}}',
		'{"version":1,"readersGroup":"-x"}',
		'{"version":1,"readersGroup":"stillpoint"}',
		'{"version":1,"__proto__":{"x":1}}',
		"null",
	])("finds fault with %s exactly when the agent does", async (text) => {
		const sources = given(text);
		const isRefused = await loadConfig(sources).then(
			() => false,
			() => true,
		);
		expect((await checkConfig(sources)).faults.length > 0).toBe(isRefused);
	});
});

describe.skipIf(process.getuid?.() !== 0)("config show", () => {
	test("gives every key with its value and where it comes from, without passwords", async () => {
		const text =
			'{\n"version": 1,\n"log": {"maxBytes": 100000,\n"level": "warn"},\n"controller": {"proxy": "http://me:secret@h:1"}}';
		const sources = given(text, { STILLPOINT_LOG_LEVEL: "debug", STILLPOINT_STATE_DIR: "/a" });
		const { entries, configFile } = await showConfig({ ...sources, flags: { ...sources.flags, runDir: "/r" } });
		const of = (key: string) => entries.find((one) => one.key === key);
		expect(of("log.maxBytes")).toEqual({
			key: "log.maxBytes",
			value: 100_000,
			origin: "file",
			where: `${configFile}:3`,
		});
		expect(of("log.level")).toEqual({
			key: "log.level",
			value: "debug",
			origin: "environment",
			where: "STILLPOINT_LOG_LEVEL",
		});
		expect(of("controller.proxy")?.value).toBe("http://***@h:1");
		expect(of("controller.url")).toEqual({ key: "controller.url", origin: "default" });
		expect(of("stateDir")).toMatchObject({ value: "/a", where: "STILLPOINT_STATE_DIR" });
		expect(of("runDir")).toEqual({ key: "runDir", value: "/r", origin: "flag" });
		expect(entries).toHaveLength(listConfigKeys().length + 3);
		expect(JSON.stringify(entries)).not.toContain("secret");
	});
});
