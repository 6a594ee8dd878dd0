/**
 * `workload.conf` of Azure's enhanced framework for databases, as what our own scripts for them are told:
 * https://learn.microsoft.com/azure/backup/backup-azure-linux-database-consistent-enhanced-pre-post
 */
import { isAbsolute } from "node:path";
import type { StillpointError } from "../../../../contracts/errors.ts";
import { azureFault } from "./azure-file.ts";
import { maxTimeoutSeconds } from "./azure-plugin-host.ts";
import { parseIni } from "./parse-ini.ts";

/** Its name for a database, our script for that, and what its client is called. */
const databases = {
	oracle: { script: "oracle/oracle-hold.mjs", clients: ["sqlplus"] },
	mysql: { script: "mariadb/mariadb-hold.mjs", clients: ["mysql", "mariadb"] },
	mariadb: { script: "mariadb/mariadb-hold.mjs", clients: ["mariadb", "mysql"] },
	postgres: { script: "postgresql/postgresql-hold.mjs", clients: ["psql"] },
} as const;
type Database = keyof typeof databases;

export type AzureWorkload = {
	readonly name: Database;
	/** Path below the folder of our scripts. */
	readonly script: string;
	/** All but where the client lies. */
	readonly options: readonly string[];
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

/**
 * Undefined: no workload is named, as in the template.
 * @throws `script-config-invalid` with Azure's code, naming file and key, and never a value that may be a secret
 */
export function parseAzureWorkload(text: string, path: string): AzureWorkload | undefined {
	const fault = (code: number, what: string, cause?: unknown): StillpointError =>
		azureFault(code, `${path}: ${what}`, cause);
	const ini = readIni(text, path);
	const keys = ini.get("workload");
	const read = (key: string): string => unquote(keys?.get(key.toLowerCase()) ?? "");
	const name = read("workload_name").toLowerCase();
	if (name === "") return undefined;
	if (!isDatabase(name)) {
		throw fault(codes.name, `workload_name ${name.slice(0, 64)} is none of ${Object.keys(databases).join(", ")}`);
	}
	if (isSet(read("customScriptEnabled"))) {
		const what = "the scripts in CustomScripts belong to Azure's extension and are run by its rules";
		throw fault(codes.parsing, `customScriptEnabled can't be honoured: ${what}; make a drop-in of them`);
	}
	if (name === "oracle" && read("configuration_path") !== "") {
		throw fault(codes.parsing, "configuration_path (several instances) can't be honoured; make a drop-in for each");
	}
	const { script, clients } = databases[name];
	const commandPath = read("command_path");
	if (commandPath !== "" && !isAbsolute(commandPath)) throw fault(codes.parsing, "command_path is not absolute");
	return {
		name,
		script,
		clients,
		commandPath: commandPath === "" ? undefined : commandPath,
		options: [
			...userOptions(read("linux_user"), fault),
			...loginOptions(name, read("credString"), fault),
			...roleOptions(),
		],
		deadlineMs: timeoutSeconds(read("timeout"), fault) * 1_000,
		notes: [
			...(ini.has("logbackup") ? [`${path}: [logbackup] is not supported: logs are not backed up`] : []),
			...(read("dbnames") === "" ? [] : [`${path}: dbnames: the whole server is held, not these databases only`]),
		],
	};

	function roleOptions(): string[] {
		const role = read("role").toLowerCase();
		// Without the key the extension takes it for a master; our script does what it does by default.
		if (role !== "" && !Object.hasOwn(roles, role)) throw fault(codes.role, "role is neither master nor slave");
		if (isSet(read("enforceSlaveOnly"))) {
			if (role === "master") throw fault(codes.role, "role is master, and enforceSlaveOnly forbids that");
			return ["--role", "replica"];
		}
		return role === "" ? [] : ["--role", roles[role] ?? "any"];
	}
}

/** Whether the extension would take it for a database of its, and run no script plugin. */
export function namesWorkload(text: string, path: string): boolean {
	try {
		return isDatabase(unquote(parseIni(text, path).get("workload")?.get("workload_name") ?? "").toLowerCase());
	} catch {
		return false;
	}
}

type Fault = (code: number, what: string) => StillpointError;

function readIni(text: string, path: string) {
	try {
		return parseIni(text, path);
	} catch (cause) {
		throw azureFault(codes.parsing, (cause as Error).message, cause);
	}
}

function userOptions(user: string, fault: Fault): string[] {
	if (user === "" || user === "root") return [];
	if (!/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/.test(user)) throw fault(codes.login, "linux_user is not the name of a user");
	return ["--os-user", user];
}

/**
 * The extension puts `credString` into the command line of the client as it is, where every user of the machine can
 * read it. Here it may only lead to a file.
 */
function loginOptions(name: Database, text: string, fault: Fault): string[] {
	if (text === "") return [];
	// The operating system vouches for linux_user.
	if (name === "oracle" && /^\/(\s+as\s+(sysbackup|sysdba))?$/i.test(text)) return [];
	const path = /^(?:--defaults-(?:extra-)?file=)?(\/\S+)$/.exec(text)?.[1];
	if (path !== undefined) return ["--credentials", path];
	throw fault(
		codes.login,
		"credString must be the path of a credentials file (root's, mode 0600), " +
			"because what stands on a command line can be read by everybody; see docs/other-scripts.md",
	);
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
