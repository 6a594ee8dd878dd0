#!/usr/bin/env node
/**
 * Holds a PostgreSQL server in backup mode while a snapshot is taken: a session script of Stillpoint. See README.md.
 *
 * 1. Connects by psql, once, and looks whether it may and should do this: version, role, rights, that the server runs on
 *    this machine in that data folder, that everything it stores is in the snapshot.
 * 2. Starts an online backup with a fast checkpoint, writes out the write-ahead log, and prints `ready`.
 * 3. Asks nothing while disks may be frozen, but watches the processes of the server.
 * 4. On a line `release ...` proves that it is the same connection, server and timeline, ends the backup, and prints
 *    `held`, or `lost REASON`.
 *
 * Backup mode belongs to the connection: the server ends it whenever psql ends.
 * Exit status: 0 held or let go, 1 the hold was lost, 64 usage, 66 a folder is missing, 69 the server can't be reached,
 * 75 a limit passed, 77 the role may not, 78 set up in a way that can't work, 70 anything else.
 */
import { readFileSync } from "node:fs";
import { ClientProcess } from "../kit/client-process.mjs";
import { commandAs } from "../kit/command-as.mjs";
import { readCommandLine } from "../kit/command-line.mjs";
import { requireCovered } from "../kit/covered-folders.mjs";
import { openCredentialsFile } from "../kit/credentials-file.mjs";
import { exits, HoldError, runSession } from "../kit/hold-session.mjs";
import { checkOptions, clientEnvironment, findClient, options, usage } from "./connect-options.mjs";
import { findServerProcess, listStorage, readFolderIdentity, watchProcesses } from "./local-server.mjs";
import { PsqlConnection } from "./psql-connection.mjs";

const name = "postgresql-hold";
const label = "stillpoint";
const oldest = 13;
const newestTested = 17;
/** For psql, beyond the server's own limit. */
const graceMs = 1_000;

class PostgresqlHold {
	#options;
	#connection;
	#server;
	#watch;

	constructor(options) {
		this.#options = options;
	}

	/** Frozen or not: a process that is gone is seen in /proc, which no disk holds up. */
	get lost() {
		return this.#watch?.lost;
	}

	async tryOut(input, stop) {
		await this.#look(input, stop);
	}

	async take(input, stop) {
		await this.#look(input, stop);
		const { lockTimeoutMs, checkpointLimitMs } = this.#options;
		await this.#connection.run(`SET statement_timeout = ${checkpointLimitMs}`, lockTimeoutMs + graceMs);
		stop.throwIfAborted();
		await this.#connection.read(
			this.#server.version >= 15
				? `SELECT json_build_object('lsn', pg_backup_start('${label}', true))`
				: `SELECT json_build_object('lsn', pg_start_backup('${label}', true, false))`,
			checkpointLimitMs + graceMs,
		);
		await this.#connection.run(`SET statement_timeout = ${lockTimeoutMs}`, lockTimeoutMs + graceMs);
		if (!this.#server.inRecovery) await this.#writeOutLog();
		this.#watch = watchProcesses([this.#server.process, this.#server.parent, this.#connection.process]);
	}

	async prove() {
		const before = this.#server;
		const gone = this.#watch.findLost();
		if (gone !== undefined) return gone;
		const now = await this.#readServer();
		for (const [key, what] of [
			["backendPid", "the connection"],
			["startedAt", "the server"],
			["inRecovery", "whether the server is in recovery"],
			["timeline", "the timeline of the server"],
			["systemIdentifier", "the cluster"],
		]) {
			if (now[key] !== before[key]) return `${what} changed from ${before[key]} to ${now[key]}`;
		}
		const folder = readFolderIdentity(before.dataFolder);
		if (folder.identity !== before.folder.identity) return `${before.dataFolder} was replaced by another folder`;
		if (folder.systemIdentifier !== before.folder.systemIdentifier)
			return `${before.dataFolder} holds another cluster now`;
		const ended = await this.#connection.read(
			before.version >= 15
				? "SELECT json_build_object('label', labelfile) FROM pg_backup_stop(false)"
				: "SELECT json_build_object('label', labelfile) FROM pg_stop_backup(false, false)",
			this.#limitMs,
		);
		// Not a secret, and the only place where a base backup's label can be had from.
		process.stderr.write(`${name}: backup_label:\n${ended.label}`);
		return undefined;
	}

	/** The server ends backup mode with the connection. */
	async letGo() {
		this.#watch?.stop();
		await this.#connection?.close();
	}

	get #limitMs() {
		return this.#options.lockTimeoutMs + graceMs;
	}

	async #look(input, stop) {
		await this.#connect();
		stop.throwIfAborted();
		const server = await this.#readServer();
		checkVersion(server.version);
		checkPort(server, this.#options.dataFolder);
		checkRole(server, this.#options.role);
		await this.#checkRights(server);
		const dataFolder = this.#options.dataFolder ?? server.dataFolder;
		const storage = listStorage(dataFolder);
		requireCovered(input, storage);
		const folder = readFolderIdentity(dataFolder);
		if (folder.systemIdentifier !== server.systemIdentifier)
			throw new HoldError(exits.config, `${dataFolder} is not the data folder of the server that answers`);
		const found = findServerProcess(server.backendPid, dataFolder, folder, storage);
		if (found === undefined) {
			throw new HoldError(
				exits.config,
				`the server that answers is not this machine's: no process of it works in ${dataFolder}`,
			);
		}
		this.#server = { ...server, dataFolder, folder, ...found };
	}

	async #connect() {
		const { credentials, osUser, clientFolder, lockTimeoutMs } = this.#options;
		// Open until psql has connected, so that it reads the very file that was looked at.
		using file = credentials === undefined ? undefined : openCredentialsFile(credentials);
		if (file !== undefined && !/^\[stillpoint\]\s*$/m.test(readFileSync(file.path, "utf8")))
			throw new HoldError(exits.config, `credentials file ${credentials} has no section [stillpoint]`);
		const psql = [findClient(clientFolder), ["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=0"]];
		const env = clientEnvironment(this.#options, file?.path);
		this.#connection = new PsqlConnection(new ClientProcess(...commandAs(osUser, ...psql), { env }));
		const limitMs = this.#limitMs;
		// Whatever the role, the database or the server set for all others.
		for (const statement of [
			`SET statement_timeout = ${lockTimeoutMs}`,
			`SET lock_timeout = ${lockTimeoutMs}`,
			"SET search_path = pg_catalog",
			"SET idle_in_transaction_session_timeout = 0",
			// Servers from 14 and 17 on know these.
			"SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout')",
		]) {
			await this.#connection.run(statement, limitMs);
		}
	}

	async #readServer() {
		return await this.#connection.read(
			`SELECT json_build_object(
				'version', current_setting('server_version_num')::int / 10000,
				'backendPid', pg_backend_pid(),
				'port', current_setting('port'),
				'clientPort', :'PORT',
				'startedAt', pg_postmaster_start_time(),
				'inRecovery', pg_is_in_recovery(),
				'timeline', CASE WHEN pg_is_in_recovery() THEN NULL ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
				'systemIdentifier', (SELECT system_identifier::text FROM pg_control_system()),
				'walLevel', current_setting('wal_level'),
				'user', current_user,
				'dataFolder', (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
				'notes', (SELECT json_object_agg(name, setting) FROM pg_settings
					WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'))`,
			this.#limitMs,
		);
	}

	async #checkRights({ version, user, dataFolder, walLevel }) {
		const functions =
			version >= 15
				? ["pg_backup_start(text, boolean)", "pg_backup_stop(boolean)"]
				: ["pg_start_backup(text, boolean, boolean)", "pg_stop_backup(boolean, boolean)"];
		const lacking = [];
		for (const signature of functions) {
			const question = `SELECT json_build_object('may', has_function_privilege('${signature}', 'EXECUTE'))`;
			const { may } = await this.#connection.read(question, this.#limitMs);
			if (!may) lacking.push(`GRANT EXECUTE ON FUNCTION ${signature} TO "${user}";`);
		}
		if (dataFolder === null && this.#options.dataFolder === undefined)
			lacking.push(`GRANT pg_read_all_settings TO "${user}";`);
		if (lacking.length > 0)
			throw new HoldError(exits.denied, `role ${user} may not do this; a superuser runs: ${lacking.join(" ")}`);
		if (walLevel === "minimal")
			throw new HoldError(exits.config, "wal_level is minimal, which knows no backup mode: set it to replica");
	}

	/** Transactions that were acknowledged before their log was written out (synchronous_commit=off) are, by this. */
	async #writeOutLog() {
		await this.#connection.run("SET synchronous_commit = local", this.#limitMs);
		await this.#connection.run(`SELECT pg_logical_emit_message(true, '${label}', '')`, this.#limitMs);
	}
}

function checkVersion(version) {
	if (version < oldest)
		throw new HoldError(
			exits.config,
			`PostgreSQL ${version} is older than ${oldest}, the oldest that this script knows`,
		);
	if (version > newestTested)
		process.stderr.write(`${name}: PostgreSQL ${version} is newer than ${newestTested}, the newest that was tried\n`);
}

/** A pooler keeps its connection to the server, and with it backup mode, when ours ends. Containers change ports, too. */
function checkPort({ port, clientPort }, namedFolder) {
	if (port === clientPort || namedFolder !== undefined) return;
	throw new HoldError(
		exits.config,
		`port ${clientPort} leads to a server on port ${port}: connect past a pooler (of a server in a container: --data-folder)`,
	);
}

function checkRole({ inRecovery }, role) {
	if (role === "primary" && inRecovery)
		throw new HoldError(exits.config, "the server is a replica, and --role says primary");
	if (role === "replica" && !inRecovery)
		throw new HoldError(exits.config, "the server is a primary, and --role says replica");
}

const given = readCommandLine(name, usage, process.argv.slice(2), options, checkOptions);
if (given !== undefined) await runSession(name, new PostgresqlHold(given), given.dryRun);
