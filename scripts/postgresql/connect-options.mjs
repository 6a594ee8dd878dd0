/** What the command line of the PostgreSQL hold says, and how psql is told. */
import { readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { absolutePath, refuseOtherUser, refusePositionals, serverOptions, wholeNumber } from "../kit/command-line.mjs";
import { exits, HoldError } from "../kit/hold-session.mjs";

export const usage = `usage: postgresql-hold.mjs [--socket FOLDER | --host NAME] [--port N] [--user NAME] [--database NAME]
    [--os-user NAME | --credentials FILE] [--client-folder DIR] [--data-folder DIR] [--role primary|replica|any]
    [--lock-timeout-ms N] [--checkpoint-limit-ms N] [--dry-run]`;

export const options = {
	...serverOptions,
	socket: { type: "string" },
	host: { type: "string" },
	port: { type: "string" },
	user: { type: "string" },
	database: { type: "string" },
	"data-folder": { type: "string" },
	role: { type: "string", default: "any" },
	"checkpoint-limit-ms": { type: "string", default: "20000" },
};

/** @throws HoldError `usage` */
export function checkOptions(values, positionals) {
	refusePositionals(positionals);
	if (!["primary", "replica", "any"].includes(values.role))
		throw new HoldError(exits.usage, "--role is primary, replica or any");
	if (values.socket !== undefined && values.host !== undefined)
		throw new HoldError(exits.usage, "either --socket or --host");
	refuseOtherUser(values);
	const isOwnRole = values.credentials === undefined && process.geteuid() === 0;
	return {
		socket: absolutePath("--socket", values.socket),
		host: values.host,
		port: values.port === undefined ? undefined : wholeNumber("--port", values.port, 1, 65_535),
		user: values.user ?? (isOwnRole ? "postgres" : undefined),
		database: values.database ?? (values.credentials === undefined ? "postgres" : undefined),
		osUser: values["os-user"] ?? (isOwnRole ? "postgres" : undefined),
		credentials: absolutePath("--credentials", values.credentials),
		clientFolder: absolutePath("--client-folder", values["client-folder"]),
		dataFolder: absolutePath("--data-folder", values["data-folder"]),
		role: values.role,
		lockTimeoutMs: wholeNumber("--lock-timeout-ms", values["lock-timeout-ms"], 100, 600_000),
		checkpointLimitMs: wholeNumber("--checkpoint-limit-ms", values["checkpoint-limit-ms"], 100, 1_800_000),
	};
}

/** libpq's own variables: nothing of the connection stands on a command line. @param {string} [serviceFile] */
export function clientEnvironment({ socket, host, port, user, database, lockTimeoutMs }, serviceFile) {
	// "/var/run/postgresql/.s.PGSQL.5433" or the folder of it.
	const file = /^\.s\.PGSQL\.(\d+)$/.exec(socket === undefined ? "" : basename(socket));
	const place = host ?? (file === null ? socket : dirname(socket));
	const given = {
		PGHOST: place,
		PGPORT: port ?? file?.[1],
		PGUSER: user,
		PGDATABASE: database,
		PGSERVICEFILE: serviceFile,
		PGSERVICE: serviceFile === undefined ? undefined : "stillpoint",
	};
	const set = Object.entries(given).filter(([, value]) => value !== undefined);
	return {
		...Object.fromEntries(set.map(([key, value]) => [key, String(value)])),
		PGAPPNAME: "stillpoint",
		PGCLIENTENCODING: "UTF8",
		PGCONNECT_TIMEOUT: String(Math.max(2, Math.ceil(lockTimeoutMs / 1000))),
		PGSYSCONFDIR: "/nonexistent",
		HOME: "/nonexistent",
	};
}

/**
 * The program itself, of the newest version: in PATH Debian has a wrapper in Perl, which starts slowly and chooses a
 * cluster. A client may be newer than its server.
 */
export function findClient(folder) {
	if (folder !== undefined) return join(folder, "psql");
	for (const [parent, pattern] of [
		["/usr/lib/postgresql", /^(\d+)$/],
		["/usr", /^pgsql-(\d+)$/],
	]) {
		const versions = listNames(parent)
			.map((entry) => ({ entry, version: Number(pattern.exec(entry)?.[1] ?? 0) }))
			.filter(({ entry, version }) => version > 0 && listNames(join(parent, entry, "bin")).includes("psql"))
			.toSorted((a, b) => b.version - a.version);
		if (versions.length > 0) return join(parent, versions[0].entry, "bin", "psql");
	}
	return "psql";
}

function listNames(folder) {
	try {
		return readdirSync(folder);
	} catch {
		return [];
	}
}
