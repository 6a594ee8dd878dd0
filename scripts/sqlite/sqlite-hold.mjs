#!/usr/bin/env node
/**
 * Holds SQLite databases still while a snapshot is taken: a session script of Stillpoint.
 *
 *   sqlite-hold.mjs [--busy-timeout-ms N] [--dry-run] DATABASE...
 *
 * 1. Looks whether the databases are in the snapshot, and checkpoints each (WAL mode), so that the copy has little to
 *    recover.
 * 2. BEGIN IMMEDIATE on each, in the order given: no other connection can write from here on; readers go on.
 * 3. Checks that it holds what it thinks it holds.
 * 4. On `release` proves that it held all along. Nothing in the database is changed.
 *
 * Exit status: 0 held or let go, 1 the hold was lost, 64 usage, 65 not a database or damaged,
 * 66 missing, 75 locked by another for too long, 78 not in the snapshot, 70 anything else.
 *
 * Never opens a database file itself: closing any descriptor of the file drops this process's POSIX locks on it.
 */
import { fstatSync, realpathSync, statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { absolutePath, readCommandLine, wholeNumber } from "../kit/command-line.mjs";
import { requireFilesCovered } from "../kit/covered-folders.mjs";
import { HoldError, runSession } from "../kit/hold-session.mjs";

const usage = "usage: sqlite-hold.mjs [--busy-timeout-ms N] [--dry-run] DATABASE...";
/** Result codes of sqlite.org/rescode.html and what they mean here. */
const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;
const SQLITE_CORRUPT = 11;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;

const options = readCommandLine(
	"sqlite-hold",
	usage,
	process.argv.slice(2),
	{ "busy-timeout-ms": { type: "string", default: "5000" } },
	(values, paths) => {
		if (paths.length === 0) throw new HoldError(64, usage);
		for (const path of paths) absolutePath(path, path);
		return { paths, busyTimeoutMs: wholeNumber("--busy-timeout-ms", values["busy-timeout-ms"], 0, 600_000) };
	},
);
if (options !== undefined) await runSession("sqlite-hold", makeHold(options), options.dryRun);

function makeHold({ paths, busyTimeoutMs }) {
	const holds = [];

	return {
		async take(input) {
			open(input);
			for (const hold of holds) checkpoint(hold);
			for (const hold of holds) takeHold(hold);
		},

		async prove() {
			let fault;
			for (const hold of holds) fault ??= prefixed(hold, findFault(hold));
			for (const hold of holds) hold.holder.exec("ROLLBACK");
			return fault;
		},

		/** Closing a connection rolls its transaction back and drops its locks. */
		async letGo() {
			for (const { holder, watcher } of holds.splice(0).toReversed()) {
				for (const database of [holder, watcher]) {
					try {
						database?.close();
					} catch {
						// Closed, or beyond help: the end of the process drops the locks.
					}
				}
			}
		},

		async tryOut(input) {
			open(input);
		},
	};

	function open(input) {
		for (const path of paths) holds.push(openDatabase(path, busyTimeoutMs));
		refuseDuplicates(holds);
		for (const path of paths) requireFilesCovered(input, { "the database": path });
	}
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

function prefixed(hold, fault) {
	return fault === undefined ? undefined : `${hold.path}: ${fault}`;
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
