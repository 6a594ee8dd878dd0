import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { parsePluginHost } from "../../extensions/vm-snapshot-linux/script-runner/sources/azure-plugin-host.ts";
import { parseAzureScriptConfig } from "../../extensions/vm-snapshot-linux/script-runner/sources/azure-script-config.ts";

/** As Azure's extension lays it down. */
const template = {
	pluginName: "ScriptRunner",
	preScriptLocation: "",
	postScriptLocation: "",
	preScriptParams: ["", ""],
	postScriptParams: ["", ""],
	preScriptNoOfRetries: 0,
	postScriptNoOfRetries: 0,
	timeoutInSeconds: 30,
	continueBackupOnFailure: true,
	fsFreezeEnabled: true,
};
const locations = { preScriptLocation: "/pre.sh", postScriptLocation: "/post.sh" };

describe("the content of VMSnapshotScriptPluginConfig.json", () => {
	test("has the defaults of the extension's code where a key is absent", () => {
		expect(parse(locations)).toEqual({
			...locations,
			preScriptParams: [],
			postScriptParams: [],
			preScriptNoOfRetries: 0,
			postScriptNoOfRetries: 0,
			timeoutInSeconds: 10,
			continueBackupOnFailure: true,
			fsFreezeEnabled: true,
		});
	});

	test.each([
		["the template", template, { timeoutInSeconds: 30, preScriptParams: ["", ""] }],
		["unknown keys", { ...locations, comment: "x", preScriptLocations: 3 }, locations],
		["any time between looks", { ...locations, ScriptsExecutionPollTimeSeconds: "often" }, locations],
		["numbers as parameters", { ...locations, preScriptParams: [3, "x"] }, { preScriptParams: ["3", "x"] }],
		["a time with a fraction", { ...locations, timeoutInSeconds: 0.5 }, { timeoutInSeconds: 0.5 }],
		["fewer than no retries", { ...locations, preScriptNoOfRetries: -1 }, { preScriptNoOfRetries: 0 }],
		[
			"more retries than there can be",
			{ ...locations, postScriptNoOfRetries: 1e300 },
			{ postScriptNoOfRetries: 10_000 },
		],
		["retries with a fraction", { ...locations, postScriptNoOfRetries: 1.5 }, { postScriptNoOfRetries: 2 }],
		["0 for false", { ...locations, fsFreezeEnabled: 0 }, { fsFreezeEnabled: false }],
		["1 for true", { ...locations, continueBackupOnFailure: 1 }, { continueBackupOnFailure: true }],
		["true as text", { ...locations, fsFreezeEnabled: "True" }, { fsFreezeEnabled: true }],
	])("%s is taken as Azure's extension takes it", (_what, content, expected) => {
		expect(parse(content)).toMatchObject(expected);
	});

	test.each([
		["no pre", { postScriptLocation: "/x" }, "preScriptLocation"],
		["no post", { preScriptLocation: "/x" }, "postScriptLocation"],
		["a location that is no text", { ...locations, preScriptLocation: 3 }, "preScriptLocation"],
		[
			"false as text, which Azure's extension takes for true",
			{ ...locations, fsFreezeEnabled: "false" },
			"fsFreezeEnabled",
		],
		["an empty text for a truth value", { ...locations, continueBackupOnFailure: "" }, "continueBackupOnFailure"],
		["nothing for a truth value", { ...locations, fsFreezeEnabled: null }, "fsFreezeEnabled"],
		["2 for a truth value", { ...locations, fsFreezeEnabled: 2 }, "fsFreezeEnabled"],
		["a time as text", { ...locations, timeoutInSeconds: "30" }, "timeoutInSeconds"],
		["no time", { ...locations, timeoutInSeconds: 0 }, "timeoutInSeconds"],
		["a negative time", { ...locations, timeoutInSeconds: -3 }, "timeoutInSeconds"],
		["retries as text", { ...locations, preScriptNoOfRetries: "2" }, "preScriptNoOfRetries"],
		["parameters as one text", { ...locations, preScriptParams: "a b" }, "preScriptParams"],
		["a parameter that is a list", { ...locations, postScriptParams: [[]] }, "postScriptParams.0"],
		["a list", [], "object"],
	])("%s is refused, naming file and key", (_what, content, key) => {
		expectFault(() => parse(content), 305, key);
	});

	test("a file that is broken beside a secret does not tell it", () => {
		const text = '{ "preScriptParams": ["-p", s3cret], "postScriptParams": [] }';
		try {
			parseAzureScriptConfig(text, "/etc/x.json");
			expect.unreachable();
		} catch (error) {
			expect((error as Error).message).toContain("/etc/x.json is no JSON: unexpected character in line 1");
			expect(inspect(error, { depth: 9 })).not.toContain("s3c");
		}
	});

	test.each([
		["a comment", '{ // ours\n"preScriptLocation": "/x" }'],
		["a comma too many", '{"preScriptLocation": "/x", "postScriptLocation": "/y",}'],
		["half a file", '{"preScriptLocation": '],
		["nothing", ""],
	])("%s is no JSON", (_what, text) => {
		expectFault(() => parseAzureScriptConfig(text, "/etc/x.json"), 305, "is no JSON");
	});

	function parse(content: unknown) {
		return parseAzureScriptConfig(JSON.stringify(content), "/etc/x.json");
	}
});

describe("the content of VMSnapshotPluginHost.conf", () => {
	const stock = `[pre_post]
timeoutInSeconds: 1800
numberOfPlugins: 1
pluginName0: ScriptRunner
pluginPath0: /etc/azure
pluginConfigPath0: /etc/azure/VMSnapshotScriptPluginConfig.json
`;
	const first = { name: "ScriptRunner", configPath: "/etc/azure/VMSnapshotScriptPluginConfig.json" };

	test.each([
		["as it is installed", stock, { timeoutMs: 1_800_000, plugins: [first] }],
		[
			"with = and capital letters",
			stock.replaceAll(": ", " = ").replace("pluginName0", "PLUGINNAME0"),
			{ plugins: [first] },
		],
		["with more time than there may be", stock.replace("1800", "7200"), { timeoutMs: 1_800_000 }],
		["with less time", stock.replace("1800", "60"), { timeoutMs: 60_000 }],
		["with indented lines", stock.replaceAll(/^(?=\w)/gm, "  "), { plugins: [first] }],
		[
			"with a value over two lines",
			stock.replace("pluginName0: Script", "pluginName0:\n  Script"),
			{ plugins: [first] },
		],
		["with comments", `# a\n; b\n\n${stock}`, { plugins: [first] }],
		["without a count", stock.replace(/numberOfPlugins.*\n/, ""), { plugins: [] }],
		["without the section", "[other]\nx = 1\n", { timeoutMs: 1_800_000, plugins: [] }],
		["empty", "", { plugins: [] }],
		[
			"with two",
			`${stock.replace("numberOfPlugins: 1", "numberOfPlugins: 2")}pluginName1: Mine\npluginConfigPath1: /etc/azure/mine.json\n`,
			{ plugins: [first, { name: "Mine", configPath: "/etc/azure/mine.json" }] },
		],
	])("%s is understood", (_what, text, expected) => {
		expect(parsePluginHost(text, "/etc/host.conf")).toMatchObject(expected);
	});

	test.each([
		["a count that is none", stock.replace("numberOfPlugins: 1", "numberOfPlugins: one"), "numberOfPlugins"],
		["a count without its plugins", stock.replace("numberOfPlugins: 1", "numberOfPlugins: 2"), "pluginName1"],
		["far too many", stock.replace("numberOfPlugins: 1", "numberOfPlugins: 99999"), "numberOfPlugins"],
		["a plugin without its file", stock.replace(/pluginConfigPath0.*\n/, ""), "pluginConfigPath0"],
		["a relative file", stock.replace("/etc/azure/VMS", "VMS"), "pluginConfigPath0"],
		["a time that is none", stock.replace("1800", "long"), "timeoutInSeconds"],
		["no time", stock.replace("1800", "0"), "timeoutInSeconds"],
		["a line that is nothing", `${stock}nonsense\n`, ":7:"],
		["a key before its section", `x = 1\n${stock}`, ":1:"],
		["a key twice", `${stock}pluginName0: Other\n`, "twice"],
		["a section twice", `${stock}[pre_post]\n`, "twice"],
	])("%s is refused, naming file and key or line", (_what, text, key) => {
		expectFault(() => parsePluginHost(text, "/etc/x.json"), 304, key);
	});
});

function expectFault(work: () => unknown, azureCode: number, words: string): void {
	try {
		work();
	} catch (error) {
		expect(error).toMatchObject({ code: "script-config-invalid", details: { azureCode } });
		expect((error as Error).message).toMatch(/^\/etc\/x\.json/);
		expect((error as Error).message).toContain(words);
		return;
	}
	throw new Error("was accepted");
}
