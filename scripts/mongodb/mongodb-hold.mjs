#!/usr/bin/env node
/**
 * Readies a MongoDB server for a snapshot, and proves that it ran on unharmed: a session script of Stillpoint. Written by
 * MongoDB's documentation, tried with no server; see README.md.
 *
 * Takes no lock. With WiredTiger's journal, files that all stand still at one instant are a whole database; and
 * fsyncLock outlives its client, which is how servers stay locked.
 *
 * 1. Looks whether it is such a server, and whether its files are in the snapshot.
 * 2. Flushes (fsync without a lock), so that the copy has little to recover.
 * 3. On `release` proves that it is the same process in the same role on the same files.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import {
	absolutePath,
	readCommandLine,
	refuseOtherUser,
	refusePositionals,
	serverOptions,
	wholeNumber,
} from "../kit/command-line.mjs";
import { listLinks, requireCovered } from "../kit/covered-folders.mjs";
import { exits, HoldError, runSession } from "../kit/hold-session.mjs";
import { Mongosh } from "./mongosh.mjs";

const usage = `usage: mongodb-hold.mjs [--socket PATH | --host NAME --port N] [--credentials FILE] [--client-folder DIR]
  [--os-user NAME] [--data-folder PATH] [--role primary|replica|any] [--lock-timeout-ms N] [--flush-limit-ms N] [--dry-run]`;
/** The first whose `hello` all later ones answer the same way. */
const oldest = [4, 4];
/** Of mongod without a configuration. */
const defaultFolder = "/data/db";
/** Between the clocks of the server's uptime and ours. */
const uptimeToleranceMs = 1_000;

const options = readCommandLine(
	"mongodb-hold",
	usage,
	process.argv.slice(2),
	{
		...serverOptions,
		socket: { type: "string" },
		host: { type: "string", default: "127.0.0.1" },
		port: { type: "string", default: "27017" },
		"data-folder": { type: "string" },
		role: { type: "string", default: "any" },
		"flush-limit-ms": { type: "string", default: "30000" },
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
			flushLimitMs: wholeNumber("--flush-limit-ms", values["flush-limit-ms"], 100, 1_800_000),
		};
	},
);
if (options !== undefined) await runSession("mongodb-hold", makeHold(options), options.dryRun);

function makeHold(limits) {
	const { lockTimeoutMs, flushLimitMs } = limits;
	let mongosh;
	let before;
	let beforeMs;

	return {
		async take(input, stop) {
			await look(input, "state", lockTimeoutMs);
			stop.throwIfAborted();
			before = await look(input, "flushThenState", flushLimitMs);
			beforeMs = performance.now();
		},

		async prove() {
			// What its uptime is at least, when it ran all the time since the last look.
			const uptimeMs = before.uptimeMs + (performance.now() - beforeMs) - uptimeToleranceMs;
			const state = await mongosh.ask("state", lockTimeoutMs);
			if (state.pid !== before.pid || state.uptimeMs < Math.max(before.uptimeMs, uptimeMs))
				return "the server was started anew";
			const now = { role: findRole(state), setName: state.setName, ...readFolder(before.folder) };
			for (const key of ["role", "setName", "identity", "lockPid"])
				if (now[key] !== before[key]) return `${key} was ${before[key]}, and is ${now[key]}`;
			return undefined;
		},

		async letGo() {
			await mongosh?.close();
		},

		async tryOut(input) {
			await look(input, "state", lockTimeoutMs);
		},
	};

	async function look(input, question, limitMs) {
		mongosh ??= new Mongosh(limits);
		const state = await mongosh.ask(question, limitMs);
		requireServer(state, limits.role);
		const folder = limits.dataFolder ?? state.dataFolder ?? defaultFolder;
		requireCovered(input, { "its data folder": folder, ...findLinked(folder) });
		const files = readFolder(folder);
		if (files.lockPid !== state.pid)
			throw new HoldError(exits.config, `${folder} is not the data folder of the server that answers (mongod.lock)`);
		if (state.isSecondary) process.stderr.write("mongodb-hold: a secondary: the copy is what it had applied by now\n");
		if (state.clusterRole !== undefined)
			process.stderr.write("mongodb-hold: part of a sharded cluster: the other parts are copied at other instants\n");
		return { ...state, folder, ...files, role: findRole(state) };
	}
}

/** The journal, a database (directoryPerDB), its indexes (directoryForIndexes): each may be moved away by a link. */
function findLinked(folder) {
	try {
		const folders = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
		return listLinks(folder, ["", ...folders.map(({ name }) => name)]);
	} catch (error) {
		throw unreadable(folder, error);
	}
}

/** A running mongod keeps its process id in mongod.lock. */
function readFolder(folder) {
	try {
		const { dev, ino } = statSync(folder, { bigint: true });
		return {
			identity: `${dev}:${ino}`,
			lockPid: Number(readFileSync(join(folder, "mongod.lock"), "utf8").trim() || Number.NaN),
		};
	} catch (error) {
		throw unreadable(folder, error);
	}
}

function unreadable(folder, error) {
	return new HoldError(exits.missing, `its data folder (${folder}) can't be looked at: ${error.code}`);
}

function requireServer(state, wantedRole) {
	const refuse = (why) => {
		throw new HoldError(exits.config, why);
	};
	const [major, minor] = state.version.split(".").map(Number);
	if (!(major > oldest[0] || (major === oldest[0] && minor >= oldest[1])))
		refuse(`MongoDB ${state.version}: needs 4.4 or newer`);
	if (state.isRouter || state.process === "mongos")
		refuse("a router (mongos) has no data: hold the members of the shards");
	if (state.engine !== "wiredTiger" || state.persistent !== true)
		refuse(`storage engine ${state.engine}: only files of wiredTiger with its journal are whole at any instant`);
	if (state.journal === false) refuse("its journal is off: a copy of its files may be none of a whole database");
	const role = findRole(state);
	if (role === undefined) {
		if (state.isArbiter) refuse("an arbiter has no data");
		throw new HoldError(exits.temporary, "a member of its replica set that is neither primary nor secondary now");
	}
	if (wantedRole !== "any" && (role === "secondary" ? "replica" : "primary") !== wantedRole)
		refuse(`the server is a ${role}, and --role is ${wantedRole}`);
}

function findRole({ setName, isPrimary, isSecondary, isArbiter }) {
	if (isArbiter) return undefined;
	if (setName === undefined) return "standalone server";
	return isPrimary ? "primary" : isSecondary ? "secondary" : undefined;
}
