/**
 * A writer under whom a snapshot is taken: a process of its own that commits, notes when each commit was acknowledged,
 * and tells all of it when asked to stop. It begins anew each time. Arguments: `file PATH` (4 KiB appended and
 * fdatasynced) or `sqlite PATH` (one row in a transaction, WAL, synchronous FULL); a number after that makes it begin
 * anew after so many commits, so that its disk never fills.
 */
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { encodeRecord } from "./record-format.ts";

const [kind, path = "", most] = process.argv.slice(2);
const mostCommits = most === undefined ? Number.POSITIVE_INFINITY : Number(most);
/** When commit n returned: Unix time to compare with a report, and monotonic time, which no step of the clock falsifies. */
const acknowledgedAt: number[] = [];
const monotonicMs: number[] = [];
let stopping = false;
process.on("message", (message) => {
	if (message === "stop") stopping = true;
});
process.on("disconnect", () => {
	stopping = true;
});

const writer = kind === "sqlite" ? openDatabase(path) : openFile(path);
process.send?.({ type: "started" });
while (!stopping) {
	if (acknowledgedAt.length >= mostCommits) {
		writer.beginAnew();
		acknowledgedAt.length = 0;
		monotonicMs.length = 0;
	}
	writer.commit(acknowledgedAt.length);
	acknowledgedAt.push(Date.now());
	monotonicMs.push(Number(process.hrtime.bigint()) / 1e6);
	await sleep(2);
}
writer.close();
process.send?.({ type: "stopped", acknowledgedAt, monotonicMs }, () => process.disconnect?.());

type CommitWriter = { commit(sequence: number): void; beginAnew(): void; close(): void };

function openFile(file: string): CommitWriter {
	let fd = openSync(file, "w");
	return {
		commit(sequence) {
			writeSync(fd, encodeRecord(sequence));
			fdatasyncSync(fd);
		},
		beginAnew() {
			closeSync(fd);
			fd = openSync(file, "w");
		},
		close: () => closeSync(fd),
	};
}

function openDatabase(file: string): CommitWriter {
	const database = new DatabaseSync(file, { timeout: 60_000 });
	database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
	database.exec("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, note TEXT NOT NULL); DELETE FROM orders");
	const insert = database.prepare("INSERT INTO orders (id, note) VALUES (?, ?)");
	return {
		commit: (sequence) => void insert.run(sequence, "x".repeat(200)),
		beginAnew: () => database.exec("DELETE FROM orders"),
		close: () => database.close(),
	};
}
