import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
	namesWorkload,
	parseAzureWorkload,
} from "../../extensions/vm-snapshot-linux/script-runner/sources/azure-workload-config.ts";
import { readAzureWorkload } from "../../extensions/vm-snapshot-linux/script-runner/sources/read-azure-workload.ts";

const secret = "s3cret-word";
const mariadb = { workload_name: "mariadb" };

describe("the content of workload.conf", () => {
	test.each([
		[
			"a database and nothing else",
			mariadb,
			{ name: "mariadb", script: "mariadb/mariadb-hold.mjs", options: [], deadlineMs: 90_000 },
		],
		["mysql", { workload_name: "mysql" }, { script: "mariadb/mariadb-hold.mjs", options: ["--client", "mysql"] }],
		["postgres", { workload_name: "postgres" }, { script: "postgresql/postgresql-hold.mjs", clients: ["psql"] }],
		["oracle in capital letters", { workload_name: "Oracle" }, { script: "oracle/oracle-hold.mjs" }],
		["indented keys", { " workload_name": "mariadb", " linux_user": "db" }, { options: ["--os-user", "db"] }],
		["keys in other letters", { WORKLOAD_NAME: "mariadb", Linux_User: "db" }, { options: ["--os-user", "db"] }],
		["quotes", { workload_name: '"mysql"' }, { name: "mysql" }],
		["root", { ...mariadb, linux_user: "root" }, { options: [] }],
		["a path as login", { ...mariadb, credString: "/etc/db.cnf" }, { options: ["--credentials", "/etc/db.cnf"] }],
		[
			"an option file as login",
			{ ...mariadb, credString: "--defaults-extra-file=/etc/db.cnf" },
			{ options: ["--credentials", "/etc/db.cnf"] },
		],
		[
			"the operating system's login of Oracle",
			{ workload_name: "oracle", linux_user: "ora", credString: "/ as SYSDBA" },
			{ options: ["--os-user", "ora", "--privilege", "sysdba"], endOptions: ["--end"] },
		],
		["Oracle's empty login", { workload_name: "oracle", credString: "/" }, { options: [] }],
		[
			"Oracle's table of instances",
			{ workload_name: "oracle", configuration_path: "/etc/oratab" },
			{ options: ["--oratab", "/etc/oratab"] },
		],
		["a master of Oracle", { workload_name: "oracle", role: "master" }, { options: [] }],
		[
			"a login in the place of a user",
			{ ...mariadb, linux_user: "db", credString: "/etc/db.cnf" },
			{ options: ["--credentials", "/etc/db.cnf"] },
		],
		[
			"psql's words without a password",
			{ workload_name: "postgres", linux_user: "postgres", credString: "-U backup -h/run/pg --port=5433 -d x" },
			{
				options: [
					"--os-user",
					"postgres",
					"--user",
					"backup",
					"--socket",
					"/run/pg",
					"--port",
					"5433",
					"--database",
					"x",
				],
			},
		],
		[
			"a file of psql's",
			{ workload_name: "postgres", linux_user: "postgres", credString: "/etc/pg.conf" },
			{ options: ["--credentials", "/etc/pg.conf"] },
		],
		["a master", { ...mariadb, role: "master", enforceSlaveOnly: "0" }, { options: ["--role", "primary"] }],
		["a slave", { ...mariadb, role: "slave", enforceSlaveOnly: "1" }, { options: ["--role", "replica"] }],
		["slaves only", { ...mariadb, enforceSlaveOnly: "1" }, { options: ["--role", "replica"] }],
		["where messages go", { ...mariadb, ipc_folder: "/var/lib/mysql-files" }, { options: [] }],
		["a time", { ...mariadb, timeout: "60" }, { deadlineMs: 60_000 }],
		["more time than there may be", { ...mariadb, timeout: "9999" }, { deadlineMs: 1_800_000 }],
		["its own scripts, switched off", { ...mariadb, customScriptEnabled: "0" }, { name: "mariadb" }],
		["another key of a database", { ...mariadb, configuration_path: "/etc/oratab", comment: "100%%" }, { options: [] }],
	])("%s is understood", (_what, keys, expected) => {
		expect(parse(keys)).toMatchObject(expected);
	});

	test("without a name says nothing", () => {
		expect(parse({ timeout: "x" })).toBeUndefined();
		expect(parseAzureWorkload("[other]\n", "/w")).toBeUndefined();
		expect(namesWorkload("[workload]\nworkload_name =\n", "/w")).toBe(false);
	});

	test("what is not supported is named", () => {
		const text = "[workload]\nworkload_name = mysql\ndbnames = a;b\n[logbackup]\nx = 1\n";
		const notes = parseAzureWorkload(text, "/w")?.notes.join("\n");
		expect(notes).toContain("[logbackup] is not supported");
		expect(notes).toContain("the whole server is held");
		expect(parse(mariadb)?.notes).toEqual([]);
	});

	test.each([
		["another database", { workload_name: "db2" }, 503, "workload_name db2"],
		["a password as login", { ...mariadb, credString: `-uroot -p${secret}` }, 505, "credString"],
		[
			"a name and a password as login",
			{ workload_name: "postgres", credString: `postgresql://a:${secret}@/x` },
			505,
			"credString",
		],
		["a login path of mysql_config_editor", { ...mariadb, credString: `--login-path=${secret}` }, 505, "credString"],
		["a path with more behind it", { ...mariadb, credString: `/etc/db.cnf -p${secret}` }, 505, "credString"],
		[
			"Oracle's login by password",
			{ workload_name: "oracle", credString: `sys/${secret} as sysdba` },
			505,
			"credString",
		],
		["a user that is none", { ...mariadb, linux_user: "a b" }, 505, "linux_user"],
		["a role that is none", { ...mariadb, role: "leader" }, 502, "role"],
		["a master where only slaves may", { ...mariadb, role: "master", enforceSlaveOnly: "1" }, 502, "enforceSlaveOnly"],
		["scripts of its own", { ...mariadb, customScriptEnabled: "1" }, 501, "customScriptEnabled"],
		["a standby of Oracle", { workload_name: "oracle", role: "slave" }, 502, "standby"],
		[
			"a relative table of instances",
			{ workload_name: "oracle", configuration_path: "oratab" },
			501,
			"configuration_path",
		],
		[
			"a connection string of psql",
			{ workload_name: "postgres", credString: `-d password=${secret}` },
			505,
			"credString",
		],
		[
			"an option of psql that may be anything",
			{ workload_name: "postgres", credString: `-v x${secret}` },
			505,
			"credString",
		],
		["an option of psql without its value", { workload_name: "postgres", credString: "-U" }, 505, "credString"],
		["a relative client", { ...mariadb, command_path: "bin/mysql" }, 501, "command_path"],
		["a time that is none", { ...mariadb, timeout: "soon" }, 501, "timeout"],
		["no time", { ...mariadb, timeout: "0" }, 501, "timeout"],
	])("%s is refused, naming file and key and no secret", (_what, keys, azureCode, words) => {
		const fault = catchFault(() => parse(keys));
		expect(fault).toMatchObject({ code: "script-config-invalid", details: { azureCode } });
		expect(fault.message).toContain("/etc/azure/workload.conf");
		expect(fault.message).toContain(words);
		expect(JSON.stringify(fault)).not.toContain(secret);
	});

	test.each([
		["indented lines", `[workload]\n  workload_name = mysql\n  credString = -p${secret}\n`],
		["a value that goes on", `[workload]\nworkload_name = mysql\n  credString = -p${secret}\n`],
	])("%s tell no secret", (_what, text) => {
		const fault = catchFault(() => parseAzureWorkload(text, "/etc/azure/workload.conf"));
		expect(inspect(fault, { depth: 9 })).not.toContain(secret);
	});

	test("a file that is broken tells its line and no secret", () => {
		const fault = catchFault(() => parseAzureWorkload(`[workload]\n${secret}\n`, "/etc/azure/workload.conf"));
		expect(fault).toMatchObject({ details: { azureCode: 501 } });
		expect(fault.message).toContain("/etc/azure/workload.conf:2:");
		expect(fault.message).not.toContain(secret);
	});

	function parse(keys: Record<string, string>) {
		const lines = Object.entries(keys).map(([key, value]) => `${key} = ${value}\n`);
		return parseAzureWorkload(`[workload]\n${lines.join("")}`, "/etc/azure/workload.conf");
	}
});

describe("the file workload.conf", () => {
	let folder: string;
	beforeAll(async () => {
		folder = await mkdtemp(join(tmpdir(), "stillpoint-workload-"));
		await writeFile(join(folder, "mysql"), "");
	});
	afterAll(async () => {
		await rm(folder, { recursive: true });
	});

	test("becomes a session of our own script, which never fails the job", async () => {
		const { applications, isNamed } = await read("workload_name = postgres\nlinux_user = postgres\ntimeout = 20\n");
		expect(isNamed).toBe(true);
		expect(applications).toMatchObject([
			{ name: "azure-workload", application: "postgres", onFailure: "continue", dryRun: true, keepsProcesses: false },
		]);
		const { command = [], deadlineMs } = applications[0]?.session ?? {};
		expect(command[0]).toBe(join(import.meta.dirname, "../../scripts/postgresql/postgresql-hold.mjs"));
		expect(command.slice(1)).toEqual(["--os-user", "postgres"]);
		expect(deadlineMs).toBe(20_000);
	});

	test.each([
		["a folder", () => `${folder}/`, () => `${folder}/`],
		["the client itself", () => join(folder, "mysql"), () => folder],
		["a client that is not there", () => "/nowhere/mysql", () => "/nowhere"],
		["a folder that is not there", () => "/nowhere/bin", () => "/nowhere/bin"],
	])("takes %s for where the client lies", async (_what, path, expected) => {
		const { applications } = await read(`workload_name = mariadb\ncommand_path = ${path()}\n`);
		expect(applications[0]?.session?.command.slice(1)).toEqual(["--client-folder", expected()]);
	});

	test.each([
		["of a database that Azure's extension does not know", "workload_name = db2\n", false],
		["that is broken", "nonsense\n", false],
		["of a database, with a fault", "workload_name = mysql\nrole = leader\n", true],
	])("%s is bad, fails no job, and takes the scripts' place only when it names one", async (_what, text, isNamed) => {
		const found = await read(text);
		expect(found).toMatchObject({
			applications: [],
			bad: [{ name: "azure-workload", onFailure: "continue" }],
			isNamed,
		});
	});

	async function read(text: string) {
		await writeFile(join(folder, "workload.conf"), `[workload]\n${text}`, { mode: 0o600 });
		return readAzureWorkload(folder, () => Promise.resolve());
	}
});

function catchFault(work: () => unknown): Error {
	try {
		work();
	} catch (error) {
		return error as Error;
	}
	throw new Error("was accepted");
}
