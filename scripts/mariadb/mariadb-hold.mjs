#!/usr/bin/env node
/**
 * Keeps MariaDB (10.5.2 or newer) or MySQL (8.0.22 or newer) from committing while a snapshot is taken: a session script of
 * Stillpoint. See README.md beside it.
 *
 * 1. Connects, looks whether the server is this machine's, and whether all of its files are in the snapshot.
 * 2. Blocks DDL and commits, waiting for others no longer than --lock-timeout-ms; has the log written.
 * 3. Prints `ready`; from here on says a word to the server now and then, so that a lost connection is noticed.
 * 4. On a line `release ...` proves that it is the same connection, that it still holds, and that nothing was
 *    committed; lets go; prints `held`, or `lost REASON`. On the end of stdin it lets go at once.
 *
 * No setting of the server is changed.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { absolutePath, readCommandLine, refusePositionals, serverOptions, wholeNumber } from "../kit/command-line.mjs";
import { exits, HoldError, runSession } from "../kit/hold-session.mjs";
import { mariadb } from "./mariadb-statements.mjs";
import { mysql } from "./mysql-statements.mjs";
import {
	readVariables,
	readVersion,
	requireFoldersCovered,
	requireLocalServer,
	requireNoClusterSurprise,
	requireRole,
} from "./server-facts.mjs";
import { SqlClient } from "./sql-client.mjs";

const usage = `usage: mariadb-hold.mjs [options]
  --credentials FILE         option file of the client with user and password (root's, mode 0600)
  --socket PATH              default: the client's own
  --host HOST --port N       TCP; of this machine
  --data-folder PATH         where its data folder lies on this machine, when the server is in a container
  --role primary|replica|any what it must be (any)
  --galera                   it may be a node of a Galera cluster, which pauses
  --lock-timeout-ms N        how long to wait for others' locks, and for each answer (5000)
  --long-query-limit-ms N    MySQL: refuse when a statement runs for this long (1000)
  --client-folder DIR --client mariadb|mysql --os-user NAME
  --dry-run                  look only`;
const name = "mariadb-hold";
const kinds = { mariadb, mysql };
const loopback = /^(localhost|127\.\d+\.\d+\.\d+|::1)$/;
/** Between words to the server while it is held. */
const aliveEveryMs = 200;
/** A word may wait for as long as the disks are frozen, if the server logs each statement. */
const aliveLimitMs = 3_600_000;
/** At least, of the connection and of plain questions. */
const minAnswerLimitMs = 1_000;
/** So that a server that ends idle connections does not end this one. */
const idleLimitSeconds = 86_400;

const options = readCommandLine(name, usage, process.argv.slice(2), optionTable(), checkOptions);
if (options !== undefined) await runSession(name, makeHold(options), options.dryRun);

function optionTable() {
	return {
		...serverOptions,
		socket: { type: "string" },
		host: { type: "string" },
		port: { type: "string" },
		"data-folder": { type: "string" },
		role: { type: "string", default: "any" },
		galera: { type: "boolean", default: false },
		client: { type: "string", default: "mariadb" },
		"long-query-limit-ms": { type: "string", default: "1000" },
	};
}

function checkOptions(values, positionals) {
	refusePositionals(positionals);
	const dataFolder = absolutePath("--data-folder", values["data-folder"]);
	if (!["primary", "replica", "any"].includes(values.role)) refuse("--role: primary, replica or any");
	if (!["mariadb", "mysql"].includes(values.client)) refuse("--client: mariadb or mysql");
	if (values.socket !== undefined && values.host !== undefined) refuse("either --socket or --host");
	if (values.host !== undefined && !loopback.test(values.host) && dataFolder === undefined) {
		refuse(`${values.host} is another machine; if it is a container of this one, say --data-folder`);
	}
	if (values.credentials !== undefined && values["os-user"] !== undefined) {
		refuse("--credentials is a file that --os-user can't read: one of them");
	}
	const lockTimeoutMs = wholeNumber("--lock-timeout-ms", values["lock-timeout-ms"], 100, 600_000);
	return {
		credentials: absolutePath("--credentials", values.credentials),
		clientFolder: absolutePath("--client-folder", values["client-folder"]),
		clientName: values.client,
		osUser: values["os-user"],
		socket: absolutePath("--socket", values.socket),
		host: values.host,
		port: values.port === undefined ? undefined : wholeNumber("--port", values.port, 1, 65_535),
		dataFolder,
		role: values.role,
		galera: values.galera,
		lockTimeoutMs,
		longQueryLimitMs: wholeNumber("--long-query-limit-ms", values["long-query-limit-ms"], 0, 600_000),
		answerLimitMs: Math.max(lockTimeoutMs, minAnswerLimitMs),
	};
}

function refuse(message) {
	throw new HoldError(exits.usage, message);
}

function makeHold(options) {
	const token = randomUUID();
	const releasing = new AbortController();
	let client;
	let kind;
	let before;
	let alive;

	async function connect(input) {
		client = new SqlClient(options);
		const server = await readVersion(client);
		kind = kinds[server.kind];
		const variables = await readVariables(client);
		requireLocalServer(variables, options);
		await requireFoldersCovered(client, server.kind, variables, options.dataFolder, input);
		await requireRole(client, server, options.role);
		await requireNoClusterSurprise(client, variables, options.galera);
	}

	/** What only this session knows, and what a commit would change. */
	async function readState() {
		const [id, mine] = await client.row("SELECT CONNECTION_ID(), @stillpoint_hold");
		return { id, mine, position: (await client.row(kind.position)).join(" ") };
	}

	async function keepAsking() {
		try {
			while (!releasing.signal.aborted) {
				await client.query("DO 0", aliveLimitMs);
				await sleep(aliveEveryMs, undefined, { signal: releasing.signal });
			}
		} catch {
			// The end of the client is told by `lost`; that of the waiting is ours.
		}
	}

	return {
		async take(input) {
			try {
				await connect(input);
				await client.query(`SET SESSION wait_timeout = ${idleLimitSeconds}, @stillpoint_hold = '${token}'`);
				await kind.take(client, options);
			} catch (error) {
				throw withAdvice(error, kind);
			}
			before = await readState();
			alive = keepAsking();
		},

		get lost() {
			return client.ended.then((reason) => `the connection is gone: ${reason}`);
		},

		async prove() {
			releasing.abort();
			const late = await Promise.race([alive, sleep(options.answerLimitMs, "late", { ref: false })]);
			if (late === "late") return `the server did not answer within ${options.answerLimitMs} ms`;
			try {
				const now = await readState();
				if (now.id !== before.id || now.mine !== token) return "it is another connection now";
				if (now.position !== before.position)
					return `something was committed: ${before.position}, then ${now.position}`;
				await kind.release(client);
			} catch (error) {
				return error.message;
			}
			return undefined;
		},

		async letGo() {
			releasing.abort();
			await client?.close();
		},

		async tryOut(input) {
			try {
				await connect(input);
				await kind.requireRights(client);
			} catch (error) {
				throw withAdvice(error, kind);
			}
		},
	};
}

function withAdvice(error, kind) {
	if (error.exitCode !== exits.denied || kind === undefined) return error;
	return new HoldError(exits.denied, `${error.message}; it needs ${kind.rights}`, { cause: error });
}
