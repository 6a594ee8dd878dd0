import { chmod, chown, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import { noOtherScripts } from "../../contracts/other-scripts.ts";
import { readApplications } from "../../extensions/vm-snapshot-linux/script-runner/read-applications.ts";

/** Part of what Azure's extension lays down. */
const template = { preScriptLocation: "", postScriptLocation: "", preScriptParams: ["", ""], timeoutInSeconds: 30 };

describe("a folder of Azure's configuration", () => {
	let folder: string;
	let config: string;
	const trusted = () => Promise.resolve();

	beforeEach(async () => {
		folder = await mkdtemp(join(tmpdir(), "stillpoint-azure-"));
		config = join(folder, "VMSnapshotScriptPluginConfig.json");
		for (const name of ["pre.sh", "post.sh"]) await writeFile(join(folder, name), "#!/bin/sh\n", { mode: 0o700 });
	});
	afterEach(async () => {
		await rm(folder, { recursive: true });
	});

	test.each([
		["nothing", {}],
		["the template", { "VMSnapshotScriptPluginConfig.json": JSON.stringify(template) }],
		[
			"the host file as it is installed, and nothing that it names",
			{
				"VMSnapshotPluginHost.conf":
					"[pre_post]\nnumberOfPlugins: 1\npluginName0: ScriptRunner\npluginConfigPath0: FOLDER/VMSnapshotScriptPluginConfig.json\n",
			},
		],
		["a workload without a name", { "workload.conf": "[workload]\nworkload_name = \ntimeout = \n" }],
	])("that holds %s names no application, silently", async (_what, files) => {
		await write(files);
		expect(await read()).toEqual({ applications: [], bad: [], notes: [], freezeDisabledBy: undefined });
	});

	test("is an application with all that its file says", async () => {
		const more = { preScriptParams: ["a", "b c"], preScriptNoOfRetries: 2, timeoutInSeconds: 7, appName: "shop" };
		await writeConfig(more);
		const { applications, bad } = await read();
		expect(bad).toEqual([]);
		expect(applications).toEqual([
			{
				name: "azure-script",
				application: "shop",
				source: "azure-script",
				order: 500,
				onFailure: "continue",
				pre: { command: [join(folder, "pre.sh"), "a", "b c"], deadlineMs: 7_000, retries: 2 },
				post: { command: [join(folder, "post.sh")], deadlineMs: 7_000, retries: 0 },
				dryRun: false,
				keepsProcesses: true,
				ownerOnly: true,
			},
		]);
	});

	test.each([
		["30 minutes at most", { timeoutInSeconds: 99_999 }, "", { pre: { deadlineMs: 1_800_000 } }],
		[
			"less when the host says so",
			{ timeoutInSeconds: 99 },
			"timeoutInSeconds: 20\n",
			{ post: { deadlineMs: 20_000 } },
		],
		["a failure of the job where that is wanted", { continueBackupOnFailure: false }, "", { onFailure: "fail" }],
		["a failure of the job where nothing is frozen", { fsFreezeEnabled: false }, "", { onFailure: "fail" }],
	])("gives %s", async (_what, change, host, expected) => {
		await writeConfig(change);
		if (host !== "") {
			const text = `[pre_post]\nnumberOfPlugins: 1\n${host}pluginName0: ScriptRunner\npluginConfigPath0: ${config}\n`;
			await write({ "VMSnapshotPluginHost.conf": text });
		}
		expect((await read()).applications).toMatchObject([expected]);
	});

	test("names the file that forbids to freeze, also without scripts", async () => {
		await writeConfig({});
		expect((await read()).freezeDisabledBy).toBeUndefined();
		await writeConfig({ fsFreezeEnabled: false });
		expect((await read()).freezeDisabledBy).toBe(config);
		await write({ "VMSnapshotScriptPluginConfig.json": JSON.stringify({ ...template, fsFreezeEnabled: false }) });
		expect(await read()).toMatchObject({ applications: [], bad: [], freezeDisabledBy: config });
	});

	test.each([
		["a pre that is not there", { preScriptLocation: "/nowhere/pre" }, 302, "/nowhere/pre"],
		["a post that is not there", { postScriptLocation: "/nowhere/post" }, 303, "/nowhere/post"],
		["a pre alone", { postScriptLocation: "" }, 303, "postScriptLocation is empty"],
		["a pre that is a folder", { preScriptLocation: tmpdir() }, 302, "there is no file"],
		["a relative pre", { preScriptLocation: "pre.sh" }, 302, "absolute"],
	])("with %s is bad, and does what continueBackupOnFailure says", async (_what, change, azureCode, words) => {
		await writeConfig(change);
		const { applications, bad } = await read();
		expect(applications).toEqual([]);
		expect(bad).toMatchObject([{ name: "azure-script", onFailure: "continue", error: { details: { azureCode } } }]);
		expect(bad[0]?.error.message).toContain(words);
		await writeConfig({ ...change, continueBackupOnFailure: false });
		expect((await read()).bad).toMatchObject([{ onFailure: "fail" }]);
	});

	test.each([
		["open to its group", 0o640, 317],
		["open to others", 0o604, 317],
		["that may be executed", 0o700, 317],
	])("with a file %s is bad, and fails no job", async (_what, mode, azureCode) => {
		await writeConfig({ continueBackupOnFailure: false });
		await chmod(config, mode);
		const { bad } = await read();
		expect(bad).toMatchObject([{ onFailure: "continue", error: { code: "script-untrusted", details: { azureCode } } }]);
		expect(bad[0]?.error.message).toContain(config);
	});

	test.skipIf(process.getuid?.() !== 0)(
		"with a file that is another's is bad, with Azure's code for that",
		async () => {
			await writeConfig({});
			await chown(config, 1, 0);
			expect((await read()).bad).toMatchObject([{ error: { code: "script-untrusted", details: { azureCode: 318 } } }]);
			await write({ "VMSnapshotPluginHost.conf": "" });
			await chown(join(folder, "VMSnapshotPluginHost.conf"), 1, 0);
			expect((await read()).bad).toMatchObject([{ error: { code: "script-untrusted", details: { azureCode: 315 } } }]);
		},
	);

	test("whose path others could change is bad", async () => {
		await writeConfig({});
		const refuse = (path: string) =>
			Promise.reject(new StillpointError("script-untrusted", `${path} belongs to uid 7`));
		expect((await read(refuse)).bad).toMatchObject([
			{ error: { code: "script-untrusted", details: { azureCode: 317 } } },
		]);
	});

	test("with a host file that others may write, or that is broken, is bad", async () => {
		await writeConfig({});
		await write({ "VMSnapshotPluginHost.conf": "nonsense" });
		expect(await read()).toMatchObject({ applications: [], bad: [{ error: { details: { azureCode: 304 } } }] });
		await chmod(join(folder, "VMSnapshotPluginHost.conf"), 0o666);
		expect((await read()).bad).toMatchObject([{ onFailure: "continue", error: { details: { azureCode: 314 } } }]);
	});

	test("with several plugins is several applications; one that is a Python module is bad", async () => {
		await writeConfig({});
		await write({ "two.json": JSON.stringify({ ...template, ...here(), fsFreezeEnabled: false }), "mine.json": "{}" });
		const plugin = (index: number, name: string, file: string) =>
			`pluginName${index}: ${name}\npluginPath${index}: ${folder}\npluginConfigPath${index}: ${join(folder, file)}\n`;
		const plugins = [
			plugin(0, "ScriptRunner", "VMSnapshotScriptPluginConfig.json"),
			plugin(1, "Mine", "mine.json"),
			plugin(2, "ScriptRunner", "two.json"),
		];
		await write({ "VMSnapshotPluginHost.conf": `[pre_post]\nnumberOfPlugins: 3\n${plugins.join("")}` });
		const found = await read();
		expect(found.applications.map(({ name, onFailure }) => [name, onFailure])).toEqual([
			["azure-script", "continue"],
			["azure-script-2", "fail"],
		]);
		expect(found.bad).toMatchObject([{ name: "azure-script-1", onFailure: "continue" }]);
		expect(found.bad[0]?.error.message).toContain("Mine is a Python module");
		expect(found.freezeDisabledBy).toBe(join(folder, "two.json"));
	});

	test.each([
		["a file that is not there", "ScriptRunner", 316, "/nowhere/x.json does not exist"],
		["a module without a file", "Mine", 304, "Mine is a Python module"],
	])("with a host file that names %s is bad: its admin meant something", async (_what, plugin, azureCode, words) => {
		const text = `[pre_post]\nnumberOfPlugins: 1\npluginName0: ${plugin}\npluginConfigPath0: /nowhere/x.json\n`;
		await write({ "VMSnapshotPluginHost.conf": text });
		const { bad } = await read();
		expect(bad).toMatchObject([{ onFailure: "continue", error: { details: { azureCode } } }]);
		expect(bad[0]?.error.message).toContain(words);
	});

	test.each([
		["VMSnapshotScriptPluginConfig.json", 305],
		["VMSnapshotPluginHost.conf", 304],
		["workload.conf", 501],
	])(
		"with %s as a link to nothing, or in bytes that are no text, is bad, with Azure's code",
		async (name, azureCode) => {
			await symlink("/nowhere/else", join(folder, name));
			const dangling = await read();
			expect(dangling.bad).toMatchObject([{ error: { code: "script-config-invalid", details: { azureCode } } }]);
			expect(dangling.bad[0]?.error.message).toContain("leads to nothing");
			await rm(join(folder, name));
			await writeFile(join(folder, name), Buffer.from([0x7b, 0xff, 0x7d]), { mode: 0o600 });
			expect((await read()).bad).toMatchObject([{ error: { details: { azureCode } } }]);
		},
	);

	test("that is a link to nothing is bad", async () => {
		const azureFolder = join(folder, "azure");
		await symlink("/nowhere/else", azureFolder);
		const given = { scriptsFolder: join(folder, "none"), otherScripts: { ...noOtherScripts, azureFolder } };
		expect((await readApplications(given, trusted)).bad).not.toEqual([]);
	});

	test("a key that is known in other letters only is told: it means nothing", async () => {
		await writeConfig({ FsFreezeEnabled: false, comment: "x" });
		expect((await read()).notes).toEqual([`${config}: FsFreezeEnabled is not known; is fsFreezeEnabled meant?`]);
	});

	test.each([
		["names no plugin", "[pre_post]\n"],
		["has its section in other letters", "[Pre_Post]\nnumberOfPlugins: 1\n"],
	])("whose host file %s runs no scripts, and says so", async (_what, text) => {
		await writeConfig({});
		await write({ "VMSnapshotPluginHost.conf": text });
		const conf = join(folder, "VMSnapshotPluginHost.conf");
		const notes = [`${conf}: no plugin is named (numberOfPlugins in [pre_post]): ${config} is not used`];
		expect(await read()).toMatchObject({ applications: [], bad: [], notes });
	});

	test("with a section [Workload] says that it means nothing", async () => {
		await write({ "workload.conf": "[Workload]\nworkload_name = mysql\n" });
		const notes = [`${folder}/workload.conf: [Workload] is not known; is [workload] meant?`];
		expect(await read()).toMatchObject({ applications: [], bad: [], notes });
	});

	test("with many plugins keeps their order", async () => {
		const names = Array.from({ length: 12 }, (_, index) => `${index}.json`);
		for (const name of names) await write({ [name]: JSON.stringify(here()) });
		const plugins = names.map(
			(name, index) => `pluginName${index}: ScriptRunner\npluginConfigPath${index}: FOLDER/${name}\n`,
		);
		await write({ "VMSnapshotPluginHost.conf": `[pre_post]\nnumberOfPlugins: 12\n${plugins.join("")}` });
		expect((await read()).applications.map(({ name }) => name)).toEqual(
			names.map((_, index) => (index === 0 ? "azure-script" : `azure-script-${index}`)),
		);
	});

	test("comes behind the drop-ins of its order", async () => {
		await writeConfig({});
		await mkdir(join(folder, "scripts.d"));
		for (const [name, order] of [
			["same", 500],
			["later", 501],
		] as const) {
			const content = { version: 1, application: name, order, pre: { command: ["/bin/true"] } };
			await writeFile(join(folder, "scripts.d", `${name}.json`), JSON.stringify(content));
		}
		expect((await read()).applications.map(({ name }) => name)).toEqual(["same", "azure-script", "later"]);
	});

	test("with a file in which nothing can be read is bad", async () => {
		await mkdir(config, { mode: 0o600 });
		expect((await read()).bad).toMatchObject([{ onFailure: "continue", error: { code: "script-config-invalid" } }]);
	});

	test("whose database is named says also that what the template forbids does not count", async () => {
		await write({ "VMSnapshotScriptPluginConfig.json": JSON.stringify({ ...template, fsFreezeEnabled: false }) });
		await write({ "workload.conf": "[workload]\nworkload_name = mysql\n" });
		expect((await read()).notes).toHaveLength(1);
	});

	test("whose database is named runs no scripts, and says so", async () => {
		await writeConfig({ fsFreezeEnabled: false });
		await write({ "workload.conf": "[workload]\nworkload_name = mysql\nlinux_user = mysql\n" });
		const found = await read();
		expect(found.applications.map(({ name }) => name)).toEqual(["azure-workload"]);
		expect(found.freezeDisabledBy).toBeUndefined();
		expect(found.notes).toEqual([`${folder}: the script plugin is not used, because workload.conf names a database`]);
	});

	test("is not looked at when there is none", async () => {
		await writeConfig({});
		const given = { scriptsFolder: join(folder, "none"), otherScripts: noOtherScripts };
		expect((await readApplications(given, trusted)).applications).toEqual([]);
	});

	const here = () => ({ preScriptLocation: join(folder, "pre.sh"), postScriptLocation: join(folder, "post.sh") });

	async function writeConfig(change: Record<string, unknown>): Promise<void> {
		await write({ "VMSnapshotScriptPluginConfig.json": JSON.stringify({ ...here(), ...change }) });
	}

	async function write(files: Record<string, string>): Promise<void> {
		for (const [name, text] of Object.entries(files))
			await writeFile(join(folder, name), text.replaceAll("FOLDER", folder), { mode: 0o600 });
	}

	function read(checkTrust: (path: string) => Promise<void> = trusted) {
		const otherScripts = { ...noOtherScripts, azureFolder: folder };
		return readApplications({ scriptsFolder: join(folder, "scripts.d"), otherScripts }, checkTrust);
	}
});
