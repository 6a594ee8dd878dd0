#!/usr/bin/env node
/**
 * Holds SQLite databases still while a snapshot is taken: a session script of Stillpoint.
 *
 *   sqlite-hold.mjs [--busy-timeout-ms N] DATABASE...
 *
 * 1. Checkpoints each database (WAL mode), so that the copy has little to recover.
 * 2. BEGIN IMMEDIATE on each, in the order given: no other connection can write from here on; readers go on.
 * 3. Checks that it holds what it thinks it holds, and prints `ready`.
 * 4. On a line `release ...` proves that it held all along, lets go and prints `held`, or `lost REASON`.
 *    On the end of stdin it lets go at once. Nothing in the database is changed.
 *
 * Exit status: 0 held or let go, 1 the hold was lost, 64 usage, 65 not a database or damaged,
 * 66 missing, 75 locked by another for too long, 70 anything else.
 *
 * Never opens a database file itself: closing any descriptor of the file drops this process's POSIX locks on it.
 */
import { fstatSync, realpathSync, statSync } from "node:fs";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";

const defaultBusyTimeoutMs = 5000;
/** Result codes of sqlite.org/rescode.html and what they mean here. */
const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;
const SQLITE_CORRUPT = 11;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;

class HoldError extends Error {
	constructor(exitCode, message) {
		super(message);
		this.exitCode = exitCode;
	}
}

const holds = [];
let ended = false;

try {
	const { paths, busyTimeoutMs } = parseArguments(process.argv.slice(2));
	for (const path of paths) holds.push(openDatabase(path, busyTimeoutMs));
	refuseDuplicates(holds);
	for (const hold of holds) checkpoint(hold);
	for (const hold of holds) takeHold(hold);
	listen();
	process.stdout.write("ready\n");
} catch (error) {
	fail(error);
}

function parseArguments(args) {
	const paths = [];
	let busyTimeoutMs = defaultBusyTimeoutMs;
	for (let index = 0; index < args.length; index += 1) {
		const arg = args[index];
		if (arg === "--busy-timeout-ms") {
			index += 1;
			busyTimeoutMs = Number(args[index]);
			if (!Number.isInteger(busyTimeoutMs) || busyTimeoutMs < 0 || busyTimeoutMs > 600_000)
				throw new HoldError(64, "--busy-timeout-ms needs a whole number from 0 to 600000");
		} else if (arg.startsWith("-")) throw new HoldError(64, `unknown option ${arg}`);
		else if (!arg.startsWith("/")) throw new HoldError(64, `${arg}: not an absolute path`);
		else paths.push(arg);
	}
	if (paths.length === 0) throw new HoldError(64, "usage: sqlite-hold.mjs [--busy-timeout-ms N] DATABASE...");
	return { paths, busyTimeoutMs };
}

function openDatabase(path, busyTimeoutMs) {
	let stats;
	try {
		stats = statSync(path, { bigint: true });
	} catch (error) {
		throw new HoldError(66, `${path}: ${error.code === "ENOENT" ? "does not exist" : error.message}`);
	}
	if (!stats.isFile()) throw new HoldError(66, `${path}: not a regular file`);
	// mode=rw: SQLite must not create a database that somebody moves away just now.
	const url = `${pathToFileURL(realpathSync(path)).href}?mode=rw`;
	const hold = {
		path,
		dev: stats.dev,
		ino: stats.ino,
		holder: undefined,
		watcher: undefined,
		dataVersion: undefined,
		logFiles: "",
	};
	return explain(hold, () => {
		hold.holder = new DatabaseSync(url, { timeout: busyTimeoutMs });
		hold.watcher = new DatabaseSync(url, { timeout: busyTimeoutMs });
		// The first read: finds out whether it is a database, and rolls back a hot journal.
		hold.holder.prepare("SELECT count(*) FROM sqlite_schema").get();
		return hold;
	});
}

function refuseDuplicates(all) {
	for (const [index, hold] of all.entries()) {
		const twin = all.slice(0, index).find((other) => other.dev === hold.dev && other.ino === hold.ino);
		if (twin !== undefined) throw new HoldError(64, `${hold.path} is the same file as ${twin.path}`);
	}
}

function checkpoint(hold) {
	explain(hold, () => {
		const mode = hold.holder.prepare("PRAGMA journal_mode").get().journal_mode;
		if (mode !== "wal") return;
		const { busy } = hold.holder.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get();
		// No fault: the write-ahead log is in the snapshot too, and is recovered when the copy is opened.
		if (busy !== 0) process.stderr.write(`${hold.path}: a reader kept the write-ahead log from being emptied\n`);
	});
}

function takeHold(hold) {
	explain(hold, () => {
		hold.holder.exec("BEGIN IMMEDIATE");
		hold.dataVersion = readDataVersion(hold);
		hold.logFiles = findLogFiles(hold);
	});
	const fault = findFault(hold);
	if (fault !== undefined) throw new HoldError(1, `${hold.path}: ${fault}`);
}

/** Why the hold does not stand any more. */
function findFault(hold) {
	if (!hold.holder.isTransaction) return "the transaction that held the write lock is gone";
	// Another connection's view: inside the transaction the version would stand still whatever happened.
	const dataVersion = readDataVersion(hold);
	if (dataVersion !== hold.dataVersion) return "somebody wrote to it in spite of the lock";
	let stats;
	try {
		stats = statSync(hold.path, { bigint: true });
	} catch (error) {
		return `the file is gone (${error.code})`;
	}
	if (stats.dev !== hold.dev || stats.ino !== hold.ino) return "the file was replaced by another";
	if (findLogFiles(hold) !== hold.logFiles) return "its write-ahead log was replaced by another";
	if (!isOpen(hold)) return "the open file is another than the one at the path";
	return undefined;
}

/** In WAL mode the lock lies in a file of its own: whoever makes a new one is not held up. Empty in other modes. */
function findLogFiles(hold) {
	if (hold.holder.prepare("PRAGMA journal_mode").get().journal_mode !== "wal") return "";
	const identities = ["-wal", "-shm"].map((end) => {
		const stats = statSync(`${realpathSync(hold.path)}${end}`, { bigint: true, throwIfNoEntry: false });
		return stats === undefined ? "none" : `${stats.dev}:${stats.ino}`;
	});
	return identities.join(" ");
}

function readDataVersion(hold) {
	return hold.watcher.prepare("PRAGMA data_version").get().data_version;
}

/** Whether one of our open files is the planned one: it may have been replaced between stat and open. */
function isOpen(hold) {
	for (let fd = 3; fd < 1024; fd += 1) {
		try {
			const stats = fstatSync(fd, { bigint: true });
			if (stats.dev === hold.dev && stats.ino === hold.ino) return true;
		} catch {
			// Not open.
		}
	}
	return false;
}

function listen() {
	const lines = createInterface({ input: process.stdin });
	lines.on("line", (line) => {
		if (line === "release" || line.startsWith("release ")) release();
	});
	lines.on("close", letGo);
}

function release() {
	if (ended) return;
	let fault;
	for (const hold of holds) {
		try {
			fault ??= prefixed(hold, findFault(hold));
			hold.holder.exec("ROLLBACK");
		} catch (error) {
			fault ??= prefixed(hold, error.message);
		}
	}
	process.stdout.write(fault === undefined ? "held\n" : `lost ${fault}\n`);
	if (fault !== undefined) process.exitCode = 1;
	letGo();
}

function prefixed(hold, fault) {
	return fault === undefined ? undefined : `${hold.path}: ${fault}`;
}

/** Closing a connection rolls its transaction back and drops its locks. */
function letGo() {
	if (ended) return;
	ended = true;
	for (const { holder, watcher } of holds.toReversed()) {
		for (const database of [holder, watcher]) {
			try {
				database?.close();
			} catch {
				// Closed, or beyond help: the end of the process drops the locks.
			}
		}
	}
	process.stdin.destroy();
}

function explain(hold, work) {
	try {
		return work();
	} catch (error) {
		if (error instanceof HoldError) throw error;
		throw new HoldError(...meaning(error, hold.path));
	}
}

function meaning(error, path) {
	// The low byte is the primary code; extended codes say where.
	switch (typeof error.errcode === "number" ? error.errcode & 0xff : -1) {
		case SQLITE_BUSY:
		case SQLITE_LOCKED:
			return [75, `${path}: another connection kept it locked for too long`];
		case SQLITE_NOTADB:
			return [65, `${path}: not an SQLite database (or an encrypted one)`];
		case SQLITE_CORRUPT:
			return [65, `${path}: the database is damaged (${error.message})`];
		case SQLITE_CANTOPEN:
			return [66, `${path}: can't be opened (${error.message})`];
		default:
			return [70, `${path}: ${error.message}`];
	}
}

function fail(error) {
	process.stderr.write(`sqlite-hold: ${error.message}\n`);
	process.exitCode = error instanceof HoldError ? error.exitCode : 70;
	letGo();
}
