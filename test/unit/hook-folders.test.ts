import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import { noOtherScripts } from "../../contracts/other-scripts.ts";
import { readApplications } from "../../extensions/vm-snapshot-linux/script-runner/read-applications.ts";

let folder: string;
const trusted = () => Promise.resolve();

beforeEach(async () => {
	folder = await mkdtemp(join(tmpdir(), "stillpoint-hooks-"));
});
afterEach(async () => {
	await rm(folder, { recursive: true });
});

test("folders that are not there, or hold nothing to call, name no application and are not looked at", async () => {
	await mkdir(join(folder, "empty"));
	const found = await read({ qemuHookFolders: ["/nowhere", join(folder, "empty")] }, refuse(join(folder, "empty")));
	expect(found).toMatchObject({ applications: [], bad: [] });
});

test("every executable file is one application, sorted by code unit", async () => {
	await write("b", "a-10", "a-9", "Z", "é");
	const { applications } = await read({ qemuHookFolders: [folder], hookDeadlineMs: 700 });
	expect(applications.map(({ name }) => name)).toEqual(
		["Z", "a-10", "a-9", "b", "é"].map((name) => `qemu-hook ${name}`),
	);
	expect(applications[1]).toEqual({
		name: "qemu-hook a-10",
		application: "qemu-hook a-10",
		source: "qemu-hook",
		order: 500,
		onFailure: "continue",
		pre: { command: [join(folder, "a-10"), "freeze"], deadlineMs: 700, retries: 0 },
		post: { command: [join(folder, "a-10"), "thaw"], deadlineMs: 700, retries: 0 },
		dryRun: false,
		keepsProcesses: true,
		ownerOnly: false,
	});
});

test("VMware's fail the job, and hear freezeFail when there is no snapshot", async () => {
	await write("one");
	const { applications } = await read({ vmwareHookFolders: [folder] });
	const path = join(folder, "one");
	expect(applications).toMatchObject([
		{
			name: "vmware-hook one",
			onFailure: "fail",
			pre: { command: [path, "freeze"] },
			post: { command: [path, "thaw"], commandWithoutSnapshot: [path, "freezeFail"] },
		},
	]);
});

test("what packages and editors leave behind, folders, and what can't be executed are not called", async () => {
	const left = ["a~", "a.bak", "a.orig", "a.rpmnew", "a.rpmorig", "a.rpmsave", "a.dpkg-old", "a.dpkg-dist", "a.sample"];
	await write(...left, ".hidden", "good", "good.bak.sh");
	await writeFile(join(folder, "README"), "", { mode: 0o644 });
	await mkdir(join(folder, "folder"));
	await symlink("/nowhere", join(folder, "dangling"));
	const { applications, bad } = await read({ qemuHookFolders: [folder] });
	expect(applications.map(({ name }) => name)).toEqual(["qemu-hook good", "qemu-hook good.bak.sh"]);
	expect(bad).toEqual([]);
});

test("what can't be executed, or leads to nothing, is told", async () => {
	await writeFile(join(folder, "forgotten"), "", { mode: 0o644 });
	await symlink("/nowhere", join(folder, "dangling"));
	await mkdir(join(folder, "folder"));
	await write("good", "good.bak");
	const { notes } = await read({ qemuHookFolders: [folder] });
	expect(notes).toEqual([
		`${folder}/dangling is not called: it leads to nothing`,
		`${folder}/forgotten is not called: it is not executable`,
	]);
});

test("a hook whose name is no UTF-8 is bad: it can't be named", async () => {
	await write("good");
	await writeFile(Buffer.concat([Buffer.from(`${folder}/sp`), Buffer.from([0xe4]), Buffer.from("t")]), "", {
		mode: 0o755,
	});
	const { applications, bad } = await read({ qemuHookFolders: [folder] });
	expect(applications).toEqual([]);
	expect(bad).toMatchObject([{ onFailure: "continue", error: { code: "script-config-invalid" } }]);
	expect(bad[0]?.error.message).toContain("UTF-8");
});

test("a folder that is a link to nothing is bad", async () => {
	await symlink("/nowhere/else", join(folder, "link"));
	const { bad } = await read({ qemuHookFolders: [join(folder, "link"), join(folder, "link/below")] });
	expect(bad).toMatchObject([
		{ error: { code: "script-config-invalid" } },
		{ error: { code: "script-config-invalid" } },
	]);
});

test("a file that two folders lead to is called once; two files of one name are two", async () => {
	await mkdir(join(folder, "one"));
	await mkdir(join(folder, "other"));
	await symlink(join(folder, "one"), join(folder, "link"));
	await write("one/hook", "other/hook");
	const folders = ["one", "link", "other"].map((name) => join(folder, name));
	const { applications } = await read({ qemuHookFolders: folders });
	expect(applications.map(({ name, pre }) => [name, pre?.command[0]])).toEqual([
		["qemu-hook hook", join(folder, "one/hook")],
		["qemu-hook hook (2)", join(folder, "other/hook")],
	]);
});

test("a file that both QEMU's and VMware's folder lead to is called once, as VMware's", async () => {
	for (const name of ["qemu", "vmware"]) await mkdir(join(folder, name));
	await write("qemu/both", "qemu/own");
	await symlink(join(folder, "qemu/both"), join(folder, "vmware/linked"));
	const folders = { qemuHookFolders: [join(folder, "qemu")], vmwareHookFolders: [join(folder, "vmware")] };
	const { applications, bad } = await read(folders);
	expect(applications.map(({ name }) => name)).toEqual(["qemu-hook own", "vmware-hook linked"]);
	expect(bad).toEqual([]);
});

test("a folder that others could change is bad, by its name, and by what its host does with a failure", async () => {
	await write("hook");
	const found = await read({ qemuHookFolders: [folder], vmwareHookFolders: [folder] }, refuse(folder));
	expect(found.applications).toEqual([]);
	expect(found.bad).toMatchObject([
		{ name: `qemu-hook ${folder}`, onFailure: "continue", error: { code: "script-untrusted" } },
		{ name: `vmware-hook ${folder}`, onFailure: "fail", error: { code: "script-untrusted" } },
	]);
});

test("something else in the place of a folder is bad", async () => {
	await write("file");
	const { bad } = await read({ qemuHookFolders: [join(folder, "file")] });
	expect(bad).toMatchObject([{ error: { code: "script-config-invalid" } }]);
});

test("drop-ins of the same order come first, and an order of their own moves them behind", async () => {
	await write("hook");
	await mkdir(join(folder, "scripts.d"));
	for (const [name, order] of [
		["first", 499],
		["same", 500],
		["last", 501],
	] as const) {
		const content = { version: 1, application: name, order, pre: { command: ["/bin/true"] } };
		await writeFile(join(folder, "scripts.d", `${name}.json`), JSON.stringify(content));
	}
	// A drop-in file may be called like anything.
	const content = { version: 1, application: "x", pre: { command: ["/bin/true"] } };
	await writeFile(join(folder, "scripts.d", "qemu-hook hook.json"), JSON.stringify(content));
	const { applications } = await read({ qemuHookFolders: [folder] });
	expect(applications.map(({ name }) => name)).toEqual([
		"first",
		"qemu-hook hook",
		"same",
		"qemu-hook hook (2)",
		"last",
	]);
});

function refuse(what: string) {
	return (path: string) =>
		path === what ? Promise.reject(new StillpointError("script-untrusted", path)) : Promise.resolve();
}

async function write(...names: string[]): Promise<void> {
	for (const name of names) await writeFile(join(folder, name), "#!/bin/sh\n", { mode: 0o755 });
}

function read(others: Partial<typeof noOtherScripts>, checkTrust: (path: string) => Promise<void> = trusted) {
	const otherScripts = { ...noOtherScripts, ...others };
	return readApplications({ scriptsFolder: join(folder, "scripts.d"), otherScripts }, checkTrust);
}
