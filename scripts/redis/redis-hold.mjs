#!/usr/bin/env node
/**
 * Holds a Redis server's writes while a snapshot is taken, so that every acknowledged write is in the copy: a session
 * script of Stillpoint.
 *
 * 1. Looks whether the server can be held, and whether its files are in the snapshot.
 * 2. Waits until no rewrite of the append-only file (or no save) runs: nobody feels that.
 * 3. CLIENT PAUSE ... WRITE, renewed while this process lives.
 * 4. Append-only file: waits until all of it has been handed to the kernel. Without one: BGSAVE, and waits for its end.
 * 5. On `release` proves that no write was let through, CLIENT UNPAUSE.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
	absolutePath,
	readCommandLine,
	refuseOtherUser,
	refusePositionals,
	serverOptions,
	wholeNumber,
} from "../kit/command-line.mjs";
import { exits, HoldError, runSession } from "../kit/hold-session.mjs";
import { RedisClient, readConnection } from "./redis-client.mjs";
import { RedisPause } from "./redis-pause.mjs";
import { readServer, requireServerCovered, requireSpaceToSave } from "./redis-server.mjs";

const usage = `usage: redis-hold.mjs [--socket PATH | --host NAME --port N] [--credentials FILE] [--client-folder DIR]
  [--os-user NAME] [--data-folder PATH] [--role primary|replica|any] [--lock-timeout-ms N] [--save-limit-ms N]
  [--pause-limit-ms N] [--dry-run]`;
const pollMs = 20;

const options = readCommandLine(
	"redis-hold",
	usage,
	process.argv.slice(2),
	{
		...serverOptions,
		socket: { type: "string" },
		host: { type: "string", default: "127.0.0.1" },
		port: { type: "string", default: "6379" },
		"data-folder": { type: "string" },
		role: { type: "string", default: "any" },
		"save-limit-ms": { type: "string", default: "60000" },
		"pause-limit-ms": { type: "string", default: "120000" },
	},
	(values, positionals) => {
		refusePositionals(positionals);
		refuseOtherUser(values);
		if (!["primary", "replica", "any"].includes(values.role))
			throw new HoldError(exits.usage, "--role is one of primary, replica, any");
		return {
			credentials: absolutePath("--credentials", values.credentials),
			clientFolder: absolutePath("--client-folder", values["client-folder"]),
			osUser: values["os-user"],
			socket: absolutePath("--socket", values.socket),
			host: values.host,
			port: wholeNumber("--port", values.port, 1, 65_535),
			dataFolder: absolutePath("--data-folder", values["data-folder"]),
			role: values.role,
			lockTimeoutMs: wholeNumber("--lock-timeout-ms", values["lock-timeout-ms"], 100, 600_000),
			saveLimitMs: wholeNumber("--save-limit-ms", values["save-limit-ms"], 100, 1_800_000),
			pauseLimitMs: wholeNumber("--pause-limit-ms", values["pause-limit-ms"], 500, 1_800_000),
		};
	},
);
if (options !== undefined) await runSession("redis-hold", makeHold(options), options.dryRun);

function makeHold(limits) {
	const { saveLimitMs, lockTimeoutMs } = limits;
	const lost = Promise.withResolvers();
	let client;
	let pause;
	let server;
	let before;

	return {
		lost: lost.promise,

		async take(input, stop) {
			const connection = await open(input);
			await settle(stop);
			pause = new RedisPause(client, connection, limits);
			pause.lost.then(lost.resolve);
			client.ended.then((reason) => lost.resolve(`its client died: ${reason}`));
			await pause.requireNoOther();
			stop.throwIfAborted();
			await pause.begin();
			if (server.keeps === "aof") await handOver(stop);
			else await save(stop);
			before = await client.info();
			if (before.get("run_id") !== server.runId) throw new HoldError(exits.temporary, "the server was started anew");
		},

		async prove() {
			const fault = (await pause.findFault()) ?? findChange(before, await client.info());
			await pause.end();
			return fault;
		},

		async letGo() {
			try {
				await pause?.end();
			} finally {
				await client?.close();
			}
		},

		async tryOut(input) {
			await open(input);
		},
	};

	async function open(input) {
		const connection = readConnection(limits);
		client = new RedisClient(connection, lockTimeoutMs);
		server = await readServer(client, limits);
		await requireServerCovered(client, server, input);
		if (server.keeps === "rdb") await requireSpaceToSave(client, server);
		if (server.role === "replica")
			process.stderr.write("redis-hold: a replica: the copy is what its primary had sent by now\n");
		if (server.isCluster)
			process.stderr.write("redis-hold: one node of a cluster: the other nodes are copied at other instants\n");
		return connection;
	}

	/** An append-only file that is made for the first time is whole only when its rewrite has ended. */
	async function settle(stop) {
		const [busy, what] =
			server.keeps === "aof"
				? [["aof_rewrite_in_progress", "aof_rewrite_scheduled"], "rewriting its append-only file"]
				: [["rdb_bgsave_in_progress"], "saving"];
		await until(stop, saveLimitMs, `it is ${what} for too long`, (info) => busy.every((key) => info.get(key) === "0"));
	}

	/**
	 * With `appendfsync everysec` a slow disk lets Redis acknowledge writes that it still has in its own memory. What the
	 * kernel has is written out by the freeze.
	 */
	async function handOver(stop) {
		const info = await until(
			stop,
			lockTimeoutMs,
			"it does not get its append-only file written",
			(one) => one.get("aof_buffer_length") === "0",
		);
		if (info.get("aof_enabled") !== "1") throw new HoldError(exits.temporary, "appendonly was just switched off");
		if (info.get("aof_last_write_status") !== "ok")
			throw new HoldError(exits.unavailable, "it can't write its append-only file (aof_last_write_status)");
		if (info.get("aof_rewrite_in_progress") !== "0")
			throw new HoldError(exits.temporary, "it has just begun to rewrite its append-only file");
	}

	async function save(stop) {
		await client.command("BGSAVE");
		const info = await until(
			stop,
			saveLimitMs,
			"the save took longer than --save-limit-ms",
			(one) => one.get("rdb_bgsave_in_progress") === "0",
		);
		if (info.get("rdb_last_bgsave_status") !== "ok")
			throw new HoldError(
				exits.unavailable,
				"the save failed: its log says why, and it may refuse writes until one succeeds (stop-writes-on-bgsave-error)",
			);
		if (info.get("rdb_changes_since_last_save") !== "0")
			throw new HoldError(exits.temporary, "something was written in spite of the pause");
	}

	async function until(stop, limitMs, tooLong, isSo) {
		const endMs = performance.now() + limitMs;
		for (;;) {
			stop.throwIfAborted();
			const info = await client.info();
			if (isSo(info)) return info;
			if (performance.now() > endMs) throw new HoldError(exits.temporary, tooLong);
			await sleep(pollMs);
		}
	}
}

/** What would tell of a write that no probe saw: a module, a script that wrote by itself. */
function findChange(before, after) {
	for (const key of ["run_id", "role", "aof_enabled"])
		if (before.get(key) !== after.get(key)) return `${key} was ${before.get(key)}, and is ${after.get(key)}`;
	if (after.get("aof_enabled") === "1" && after.get("aof_last_write_status") !== "ok")
		return "it can't write its append-only file any more";
	const [changes, changesNow] = [before, after].map((info) => Number(info.get("rdb_changes_since_last_save")));
	// A save of its own that ended meanwhile takes away what it saved.
	const isSameSave = before.get("rdb_last_save_time") === after.get("rdb_last_save_time");
	if (changesNow > changes || (isSameSave && changesNow !== changes))
		return "something was written in spite of the pause";
	return undefined;
}
