/** Databases that run here, and whether an application of the configuration is theirs: pure. */
import type { Finding } from "../../contracts/check.ts";
import { findArgument, type Process } from "./processes.ts";

type Kind = {
	readonly name: string;
	readonly isServer: (process: Process, all: readonly Process[]) => boolean;
	readonly folderOf: (process: Process) => string | undefined;
	/** Words by which an application is known to be of this kind. */
	readonly words: RegExp;
	readonly page: string;
};

/** These servers make their data folder their working directory. */
const cwd = ({ folder }: Process) => folder;

const kinds: readonly Kind[] = [
	{
		name: "PostgreSQL",
		isServer: ({ name, parent }, all) =>
			isPostgres(name) && !all.some((other) => other.pid === parent && isPostgres(other.name)),
		folderOf: cwd,
		words: /postgres|pg_|psql/i,
		page: "scripts/postgresql/README.md",
	},
	{
		name: "MariaDB or MySQL",
		isServer: ({ name }) => name === "mariadbd" || name === "mysqld",
		folderOf: cwd,
		words: /maria|mysql/i,
		page: "scripts/mariadb/README.md",
	},
	{
		name: "Redis",
		isServer: ({ name }) => name === "redis-server" || name === "valkey-server",
		folderOf: cwd,
		words: /redis|valkey/i,
		page: "scripts/redis/README.md",
	},
	{
		name: "MongoDB",
		isServer: ({ name }) => name === "mongod",
		folderOf: ({ args }) => findArgument(args, "--dbpath"),
		words: /mongo/i,
		page: "scripts/mongodb/README.md",
	},
	{
		name: "Oracle",
		isServer: ({ name }) => /^(ora|db|xe)_pmon_/.test(name),
		folderOf: () => undefined,
		words: /oracle/i,
		page: "scripts/oracle/README.md",
	},
];

function isPostgres(name: string): boolean {
	return name === "postgres" || name === "postmaster";
}

export function mayBeDatabase(name: string): boolean {
	return isPostgres(name) || kinds.some(({ isServer }) => isServer({ pid: 0, parent: -1, name, args: [] }, []));
}

export type ConfiguredApplication = {
	readonly name: string;
	readonly application: string;
	readonly session?: { readonly command: readonly string[] };
	readonly pre?: { readonly command: readonly string[] };
	readonly post?: { readonly command: readonly string[] };
};

/** An application is taken for a database's by its words: which server its script asks is known to the script alone. */
export function databaseFindings(
	processes: readonly Process[],
	applications: readonly ConfiguredApplication[],
	/** Whether a folder, as that process sees it, lies on what a job covers. */
	isCovered: (folder: string, process: Process) => boolean,
): Finding[] {
	return kinds.flatMap(({ name, isServer, folderOf, words, page }): Finding[] => {
		const servers = processes.filter((one) => {
			const folder = folderOf(one);
			return isServer(one, processes) && (folder === undefined || isCovered(folder, one));
		});
		if (servers.length === 0) return [];
		const covering = applications.filter((one) => words.test(textOf(one)));
		const where = servers
			.map((one) => `${folderOf(one) ?? `pid ${one.pid}`}${one.isElsewhere ? " of another mount namespace" : ""}`)
			.sort()
			.join(", ");
		const what = `${name} runs (${where})`;
		if (covering.length >= servers.length) {
			return [
				{ check: "databases", status: "ok" as const, what: `${what}: ${covering.map((one) => one.name).join(", ")}` },
			];
		}
		return [
			{
				check: "databases",
				status: "warn" as const,
				what: `${what}, and ${covering.length === 0 ? "no application covers it" : `only ${covering.length} of ${servers.length} are covered`}`,
				why: "Its copy would have to recover by itself, as after a power cut.",
				remedy: `Add a drop-in for it: ${page}.`,
			},
		];
	});
}

function textOf({ name, application, session, pre, post }: ConfiguredApplication): string {
	return [name, application, ...[session, pre, post].flatMap((step) => step?.command ?? [])].join(" ");
}
