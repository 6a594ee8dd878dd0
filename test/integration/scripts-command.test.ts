/** `stillpoint scripts`, as a process, with configurations of every kind. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { noOtherScripts } from "../../contracts/other-scripts.ts";
import { readAzureWorkload } from "../../extensions/vm-snapshot-linux/script-runner/sources/read-azure-workload.ts";
import { expectDocument } from "../fixtures/expect-document.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");
const entry = join(import.meta.dirname, "../../command-line/stillpoint.ts");

describe.skipIf(missing)(`stillpoint scripts${missing ? `: ${missing}` : ""}`, () => {
	let folder: string;
	beforeAll(async () => {
		// The trust check wants folders that are root's all the way.
		folder = await mkdtemp("/var/lib/stillpoint-test-scripts-");
		for (const name of ["scripts.d", "azure", "hooks", "empty"]) await mkdir(join(folder, name));
		await script("quiet", 'echo "$*" >> FOLDER/told; [ "$STILLPOINT_PHASE" = dry-run ] && cat > FOLDER/input; exit 0');
		await script("refuses", "echo the server is down; exit 7");
		await script("hooks/10-db", "exit 0");
		await dropIn("shop", { order: 100, runAs: "nobody", pre: { command: [join(folder, "quiet"), "a b"], retries: 2 } });
		await dropIn("tried", { order: 200, dryRun: true, pre: { command: [join(folder, "quiet")], deadlineMs: 5_000 } });
		await config("good", { qemuHookFolders: [join(folder, "hooks")] });
		await config("none", {}, "empty");
	});
	afterAll(() => rm(folder, { recursive: true, force: true }));

	test("list shows all, in the order of a job", async () => {
		const { stdout, exitCode } = await stillpoint("good", "list");
		expect(exitCode).toBe(0);
		const lines = stdout.split("\n");
		expect(lines[0]).toMatch(/^ORDER +NAME +APPLICATION +SOURCE +USER +ON FAILURE +STEP +DEADLINE +RETRIES +COMMAND$/);
		expect(lines[1]).toMatch(/^100 +shop +shop +drop-in +nobody +fail +pre +30 s +2 +\S+\/quiet 'a b'$/);
		expect(lines[2]).toMatch(/^200 +tried .* root +fail +pre +5.0 s +0 /);
		expect(lines[3]).toMatch(/^500 +qemu-hook 10-db .* continue +pre +60 s +0 +\S+\/10-db freeze$/);
		expect(lines[4]).toMatch(/^ +post +60 s +0 +\S+\/10-db thaw$/);
	});

	test("list --json is one document with all of it", async () => {
		const { stdout } = await stillpoint("good", "list", "--json");
		const { applications, bad, notes } = expectDocument("scripts list", stdout) as {
			[key: string]: { name: string }[];
		};
		expect([bad, notes]).toEqual([[], []]);
		expect(applications?.map(({ name }) => name)).toEqual(["shop", "tried", "qemu-hook 10-db"]);
		expect(applications?.[0]).toMatchObject({ runAs: "nobody", pre: { retries: 2 } });
	});

	test("with nothing configured both say so", async () => {
		for (const command of ["list", "check"]) {
			const { stdout, exitCode } = await stillpoint("none", command);
			expect([stdout, exitCode]).toEqual(["no scripts are configured", 0]);
		}
	});

	test("check tries what knows a dry run, with the disks of a job, and starts nothing else", async () => {
		await rm(join(folder, "told"), { force: true });
		const { stdout, exitCode } = await stillpoint("good", "check", "tried");
		expect([exitCode, stdout]).toEqual([0, expect.stringMatching(/^tried +pre +dry run ok$/m)]);
		expect(await readFile(join(folder, "told"), "utf8")).toBe("--dry-run\n");
		const input = JSON.parse(await readFile(join(folder, "input"), "utf8"));
		expect(input).toMatchObject({ phase: "dry-run", level: "application" });
		expect(input.disks.length).toBeGreaterThan(0);
		expect(input.fileSystems[0]).toMatchObject({ superblock: expect.stringMatching(/^\d+:\d+$/) });
		const hook = await stillpoint("good", "check", "qemu-hook 10-db", "--json");
		const [check] = JSON.parse(hook.stdout).checks;
		expect(check.reports.map(({ phase }: { phase: string }) => phase)).toEqual(["pre", "post"]);
		expect(check.reports[0].exitCode).toBeUndefined();
	});

	test("check ends with 3 for a dry run that fails, what others could change, and what can't be read", async () => {
		await dropIn("down", { dryRun: true, pre: { command: [join(folder, "refuses")] } });
		await writeFile(join(folder, "open"), "#!/bin/sh\n", { mode: 0o755 });
		await execa("chmod", ["o+w", join(folder, "open")]);
		await dropIn("open", { pre: { command: [join(folder, "open")] } });
		await dropIn("broken", { pre: { command: ["relative"] }, onFailure: "continue" });
		const { stdout, exitCode } = await stillpoint("good", "check");
		expect(exitCode).toBe(3);
		expect(stdout).toMatch(/^down +pre +script-failed +.*exit status 7.*the server is down$/m);
		expect(stdout).toMatch(/^open +pre +script-untrusted +.*open is writable by group or others/m);
		expect(stdout).toMatch(/^bad: broken \(file-system at best\): .*pre.command/m);
		const all = await stillpoint("good", "check", "--json");
		expect(expectDocument("scripts check", all.stdout)["checks"]).toHaveLength(5);
		const one = await stillpoint("good", "check", "broken", "--json");
		expect(one.exitCode).toBe(3);
		expect(JSON.parse(one.stdout)).toMatchObject({ checks: [], bad: [{ error: { code: "script-config-invalid" } }] });
		for (const name of ["down", "open", "broken"]) await rm(join(folder, "scripts.d", `${name}.json`));
	});

	test("a name that nothing has is told", async () => {
		const { stderr, exitCode } = await stillpoint("good", "check", "nonsense");
		expect(exitCode).not.toBe(0);
		expect(stderr).toContain("not-found");
	});

	test("what Azure's files say of freezing, and what of them is not used, is told", async () => {
		const content = { preScriptLocation: "", postScriptLocation: "", fsFreezeEnabled: false };
		const path = join(folder, "azure/VMSnapshotScriptPluginConfig.json");
		await writeFile(path, JSON.stringify(content), { mode: 0o600 });
		await config("azure", { azureFolder: join(folder, "azure") }, "empty");
		const { stdout } = await stillpoint("azure", "list");
		expect(stdout).toContain(`nothing is frozen: ${path}: fsFreezeEnabled is false`);
		const text = "[workload]\nworkload_name = postgres\nlinux_user = postgres\n[logbackup]\n";
		await writeFile(join(folder, "azure/workload.conf"), text, { mode: 0o600 });
		const named = await stillpoint("azure", "list");
		expect(named.stdout).toMatch(/^600 +azure-workload +postgres +azure-workload +root +continue +session +90 s/m);
		expect(named.stdout).toContain("[logbackup] is not supported");
		expect(named.stdout).not.toContain("nothing is frozen");
	});

	test("what would be run under Azure's agent is read from its own configuration", async () => {
		const own = join(folder, "azure-guest.json");
		const content = { version: 1, runFolder: join(folder, "run"), scriptsFolder: join(folder, "empty") };
		const otherScripts = { ...noOtherScripts, qemuHookFolders: [join(folder, "hooks")] };
		await writeFile(own, JSON.stringify({ ...content, otherScripts }), { mode: 0o600 });
		const run = (...words: string[]) =>
			execa(process.execPath, [entry, "scripts", ...words, "--azure-guest", own, "--json"], { reject: false });
		const listed = JSON.parse((await run("list")).stdout);
		expect(listed.applications.map(({ name }: { name: string }) => name)).toEqual(["qemu-hook 10-db"]);
		const checked = await run("check", "qemu-hook 10-db");
		expect([checked.exitCode, JSON.parse(checked.stdout).checks.length]).toEqual([0, 1]);
		await writeFile(own, JSON.stringify({ ...content, runFolder: 3 }));
		expect(JSON.parse((await run("list")).stdout).error.code).toBe("config-invalid");
		await rm(own);
		expect(JSON.parse((await run("list")).stdout).error.code).toBe("config-missing");
	});

	test.each([
		["oracle", "linux_user = oracle\ncredString = / as sysdba\nconfiguration_path = /etc/oratab\n"],
		["mysql", "linux_user = mysql\nrole = slave\n"],
		["mariadb", "credString = --defaults-extra-file=/etc/x.cnf\nrole = master\n"],
		["postgres", "linux_user = postgres\ncredString = -U a -d b -h c -p 5\nenforceSlaveOnly = 1\n"],
	])("what workload.conf says of %s is understood by our script", async (name, keys) => {
		const azure = await mkdtemp(join(folder, "workload-"));
		const text = `[workload]\nworkload_name = ${name}\ncommand_path = ${folder}\n${keys}`;
		await writeFile(join(azure, "workload.conf"), text, { mode: 0o600 });
		const { applications } = await readAzureWorkload(azure, () => Promise.resolve());
		const [program = "", ...options] = applications[0]?.session?.command ?? [];
		const run = (...more: string[]) => execa(process.execPath, [program, ...options, ...more], { reject: false });
		expect(await run("--help")).toMatchObject({ exitCode: 0, stderr: "" });
		// The same question can be answered otherwise.
		expect((await run("--nonsense", "--help")).exitCode).not.toBe(0);
	});

	function stillpoint(name: string, ...words: string[]) {
		const flags = ["--config", join(folder, `${name}.json`), "--run-dir", join(folder, "run")];
		return execa(process.execPath, [entry, "scripts", ...words, ...flags], {
			reject: false,
			timeout: 40_000,
			stdin: "ignore",
			env: { COLUMNS: "" },
		});
	}

	async function config(name: string, others: Record<string, unknown>, scripts = "scripts.d"): Promise<void> {
		const content = {
			version: 1,
			scriptsFolder: join(folder, scripts),
			otherScripts: { ...noOtherScripts, ...others },
		};
		await writeFile(join(folder, `${name}.json`), JSON.stringify(content), { mode: 0o600 });
	}

	async function script(name: string, text: string): Promise<void> {
		await writeFile(join(folder, name), `#!/bin/sh\n${text.replaceAll("FOLDER", folder)}\n`, { mode: 0o755 });
	}

	async function dropIn(name: string, content: Record<string, unknown>): Promise<void> {
		const text = JSON.stringify({ version: 1, application: name, ...content });
		await writeFile(join(folder, "scripts.d", `${name}.json`), text, { mode: 0o600 });
	}
});
