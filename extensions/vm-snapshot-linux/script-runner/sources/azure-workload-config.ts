/**
 * `workload.conf` of Azure's enhanced framework for databases, as what our own scripts for them are told:
 * https://learn.microsoft.com/azure/backup/backup-azure-linux-database-consistent-enhanced-pre-post
 */
import { isAbsolute } from "node:path";
import type { StillpointError } from "../../../../contracts/errors.ts";
import { azureFault } from "./azure-file.ts";
import { maxTimeoutSeconds } from "./azure-plugin-host.ts";
import { mysqlLogin, oracleLogin, postgresLogin } from "./azure-workload-login.ts";
import { parseIni } from "./parse-ini.ts";

/** By Azure's name: our script, what its client is called, and what the script is told besides. */
const databases = {
	oracle: { script: "oracle/oracle-hold.mjs", clients: ["sqlplus"], options: [], login: oracleLogin },
	mysql: {
		script: "mariadb/mariadb-hold.mjs",
		clients: ["mysql", "mariadb"],
		options: ["--client", "mysql"],
		login: mysqlLogin,
	},
	mariadb: { script: "mariadb/mariadb-hold.mjs", clients: ["mariadb", "mysql"], options: [], login: mysqlLogin },
	postgres: { script: "postgresql/postgresql-hold.mjs", clients: ["psql"], options: [], login: postgresLogin },
} as const;
type Database = keyof typeof databases;

export type AzureWorkload = {
	readonly name: Database;
	/** Path below the folder of our scripts. */
	readonly script: string;
	/** All but where the client lies. */
	readonly options: readonly string[];
	/** What undoes the hold when the session was killed. */
	readonly endOptions: readonly string[] | undefined;
	/** The client, or its folder. */
	readonly commandPath: string | undefined;
	readonly clients: readonly string[];
	readonly deadlineMs: number;
	readonly notes: readonly string[];
};

/** Azure's codes: the file can't be read, its role, its name, what it says of the login. */
const codes = { parsing: 501, role: 502, name: 503, login: 505 };
const defaultTimeoutSeconds = 90;
const roles: Readonly<Record<string, string>> = { master: "primary", slave: "replica" };

type Fault = (code: number, what: string) => StillpointError;
type Read = (key: string) => string;

/**
 * Undefined: no workload is named, as in the template.
 * @throws `script-config-invalid` with Azure's code, naming file and key, and never a value that may be a secret
 */
export function parseAzureWorkload(text: string, path: string): AzureWorkload | undefined {
	const fault: Fault = (code, what) => azureFault(code, `${path}: ${what}`);
	const ini = readIni(text, path);
	const read: Read = (key) => unquote(ini.get("workload")?.get(key.toLowerCase()) ?? "");
	const name = read("workload_name").toLowerCase();
	if (name === "") return undefined;
	if (!isDatabase(name)) {
		// A value that goes on in the next line may have taken a secret with it.
		const told = /^[\w.-]{1,64}$/.test(name) ? ` ${name}` : "";
		throw fault(codes.name, `workload_name${told} is none of ${Object.keys(databases).join(", ")}`);
	}
	if (isSet(read("customScriptEnabled"))) {
		const what = "the scripts in CustomScripts belong to Azure's extension and are run by its rules";
		throw fault(codes.parsing, `customScriptEnabled can't be honoured: ${what}; make a drop-in of them`);
	}
	const commandPath = readPath("command_path", read, fault);
	const { script, clients, options } = databases[name];
	const isOracle = name === "oracle";
	const oratab = isOracle ? readPath("configuration_path", read, fault) : undefined;
	const role = roleOptions(read, fault);
	if (isOracle && role.includes("replica"))
		throw fault(codes.role, "a standby of Oracle can't be held: hold its primary");
	return {
		name,
		script,
		clients,
		commandPath,
		options: [
			...options,
			...loginOptions(name, read, fault),
			...(oratab === undefined ? [] : ["--oratab", oratab]),
			...(isOracle ? [] : role),
		],
		endOptions: isOracle ? ["--end"] : undefined,
		deadlineMs: timeoutSeconds(read("timeout"), fault) * 1_000,
		notes: [
			...(ini.has("logbackup") ? [`${path}: [logbackup] is not supported: logs are not backed up`] : []),
			...(read("dbnames") === "" ? [] : [`${path}: dbnames: the whole server is held, not these databases only`]),
		],
	};
}

/** Whether the extension would take it for a database of its, and run no script plugin. */
export function namesWorkload(text: string, path: string): boolean {
	try {
		return isDatabase(unquote(parseIni(text, path).get("workload")?.get("workload_name") ?? "").toLowerCase());
	} catch {
		return false;
	}
}

function readIni(text: string, path: string) {
	try {
		return parseIni(text, path);
	} catch (cause) {
		throw azureFault(codes.parsing, (cause as Error).message, cause);
	}
}

function readPath(key: string, read: Read, fault: Fault): string | undefined {
	const path = read(key);
	if (path === "") return undefined;
	if (!isAbsolute(path)) throw fault(codes.parsing, `${key} is not an absolute path`);
	return path;
}

function loginOptions(name: Database, read: Read, fault: Fault): readonly string[] {
	const user = read("linux_user");
	if (user !== "" && !/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/.test(user)) {
		throw fault(codes.login, "linux_user is not the name of a user");
	}
	const options = databases[name].login(read("credString"), user === "" || user === "root" ? [] : ["--os-user", user]);
	if (options !== undefined) return options;
	const wanted =
		name === "oracle"
			? "must be empty or / as sysbackup: the operating system vouches for linux_user"
			: "must be the path of a credentials file (root's, mode 0600)";
	throw fault(
		codes.login,
		`credString ${wanted}; what stands on a command line can be read by everybody; see docs/other-scripts.md`,
	);
}

/** Without the key the extension takes it for a master; our script holds what it finds. */
function roleOptions(read: Read, fault: Fault): readonly string[] {
	const role = read("role").toLowerCase();
	if (role !== "" && !Object.hasOwn(roles, role)) throw fault(codes.role, "role is neither master nor slave");
	if (isSet(read("enforceSlaveOnly"))) {
		if (role === "master") throw fault(codes.role, "role is master, and enforceSlaveOnly forbids that");
		return ["--role", "replica"];
	}
	return role === "" ? [] : ["--role", roles[role] ?? "any"];
}

function timeoutSeconds(text: string, fault: Fault): number {
	if (text === "") return defaultTimeoutSeconds;
	const seconds = Number(text);
	if (!/^\d{1,9}$/.test(text) || seconds === 0) throw fault(codes.parsing, "timeout is not a number of seconds");
	return Math.min(seconds, maxTimeoutSeconds);
}

function isSet(text: string): boolean {
	return text !== "" && text !== "0" && text.toLowerCase() !== "false";
}

function isDatabase(name: string): name is Database {
	return Object.hasOwn(databases, name);
}

function unquote(text: string): string {
	return /^(["'])(.*)\1$/s.exec(text)?.[2] ?? text;
}

/** Sentences for people about a section that means nothing, and that looks as if it were meant. */
export function findMisspeltSections(text: string, path: string): string[] {
	return [...readIni(text, path).keys()]
		.filter((section) => section !== "workload" && section.toLowerCase() === "workload")
		.map((section) => `${path}: [${section}] is not known; is [workload] meant?`);
}
