/**
 * Jobs and unsent reports on disk. SQLite with a rollback journal: with WAL even a SELECT hangs while the disk is
 * frozen. Every call is synchronous and touches the disk, so callers go through the write hold.
 */
import { closeSync, fsyncSync, openSync } from "node:fs";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { StillpointError } from "../contracts/errors.ts";
import type { Order } from "../contracts/order.ts";
import { type Report, reportSchema } from "../contracts/report.ts";
import { closeToOthers } from "./private-folder.ts";
import { asSqliteError } from "./sqlite-error.ts";

export type AskerKind = "link" | "local";

export type JournalJob = {
	readonly jobId: string;
	readonly order: Order;
	readonly asker: AskerKind;
	/** The controller that ordered it over the link. */
	readonly controller?: string;
	readonly phase: "running" | "done" | "failed";
	readonly createdAt: string;
	/** Only of the newest jobs. */
	readonly report?: Report;
};

/** A report without a controller is an older version's, and is for whichever there is. */
export type OutboxEntry = { readonly sequence: number; readonly jobId: string; readonly controller?: string };

export type Journal = Disposable & {
	readonly path: string;
	/** Newest first. */
	readJobs(limit: number): JournalJob[];
	findReport(jobId: string): Report | undefined;
	/** @throws `job-conflict` for an id that was ever used, also when its record is trimmed. */
	addJob(job: JournalJob): void;
	/** The end of a job and, with `sequence`, its place in the outbox: both or none. Repeating it changes nothing. */
	endJob(job: JournalJob & { report: Report }, sequence: number | undefined): void;
	readOutbox(): OutboxEntry[];
	readOutboxReport(sequence: number): Report | undefined;
	removeFromOutbox(sequence: number): void;
	/** Greater than every sequence number that was ever given. */
	nextSequence(): number;
	readIdentity(): string | undefined;
	writeIdentity(identity: string): void;
	/** Copies all into a new file and forgets jobs and outbox; ids stay used, sequence numbers go on. */
	putAside(path: string): void;
	/** Keeps the newest `jobs` records, the reports of the newest `reports`, and every id for ever. */
	trim(keep: { jobs: number; reports: number }): void;
};

const formatVersion = 3;

/** @throws `journal-corrupt`, `disk-full`, `state-unusable`, each naming the file; `version-unsupported` for a newer format. */
export function openJournal(path: string): Journal {
	let database: DatabaseSync | undefined;
	try {
		database = new DatabaseSync(path, { timeout: 0 });
		closeToOthers(path);
		prepare(database, path);
	} catch (error) {
		database?.close();
		throw asSqliteError(error, path);
	}
	return makeJournal(database, path);
}

function prepare(database: DatabaseSync, path: string): void {
	database.exec("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; PRAGMA cache_size=-512");
	const version = Number(database.prepare("PRAGMA user_version").get()?.["user_version"]);
	if (version > formatVersion)
		throw new StillpointError(
			"version-unsupported",
			`${path} has format ${version}, this program knows ${formatVersion}`,
		);
	if (version > 0) {
		const check = database.prepare("PRAGMA quick_check(1)").get();
		if (check?.["quick_check"] !== "ok")
			throw new StillpointError("journal-corrupt", `${path}: ${String(check?.["quick_check"])}`, { details: { path } });
	}
	if (version === formatVersion) return;
	database.exec("BEGIN EXCLUSIVE");
	database.exec(`
		CREATE TABLE IF NOT EXISTS jobs (
			jobId TEXT PRIMARY KEY, "order" TEXT NOT NULL, asker TEXT NOT NULL, phase TEXT NOT NULL,
			createdAt TEXT NOT NULL, report TEXT
		) STRICT;
		CREATE TABLE IF NOT EXISTS outbox (
			sequence INTEGER PRIMARY KEY AUTOINCREMENT, jobId TEXT NOT NULL, report TEXT NOT NULL
		) STRICT;
		CREATE TABLE IF NOT EXISTS spent (jobId TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
		CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
	`);
	for (const table of ["jobs", "outbox"])
		if (!hasColumn(database, table, "controller")) database.exec(`ALTER TABLE ${table} ADD COLUMN controller TEXT`);
	database.exec(`PRAGMA user_version = ${formatVersion}; COMMIT`);
}

function syncFile(path: string): void {
	const file = openSync(path, "r");
	try {
		fsyncSync(file);
	} finally {
		closeSync(file);
	}
}

function hasColumn(database: DatabaseSync, table: string, column: string): boolean {
	return database
		.prepare(`PRAGMA table_info(${table})`)
		.all()
		.some(({ name }) => name === column);
}

function makeJournal(database: DatabaseSync, path: string): Journal {
	function run(sql: string, ...values: SQLInputValue[]): void {
		database.prepare(sql).run(...values);
	}
	/** Every fault of SQLite gets a code; a transaction that failed is rolled back. */
	function guarded<T>(work: () => T): T {
		try {
			return work();
		} catch (error) {
			if (database.isTransaction) database.exec("ROLLBACK");
			throw asSqliteError(error, path);
		}
	}
	function parse<T>(text: unknown, check: (value: unknown) => T): T {
		try {
			return check(JSON.parse(String(text)));
		} catch (cause) {
			throw new StillpointError("journal-corrupt", `${path} holds a record that cannot be read`, { cause });
		}
	}
	const parseReport = (text: unknown) => parse(text, (value) => reportSchema.loose().parse(value) as Report);

	return {
		path,
		readJobs: (limit) =>
			guarded(() =>
				database
					.prepare(
						`SELECT jobId, "order", asker, controller, phase, createdAt, report FROM jobs ORDER BY rowid DESC LIMIT ?`,
					)
					.all(limit)
					.map((row) => ({
						jobId: String(row["jobId"]),
						order: parse(row["order"], (value) => value as Order),
						asker: row["asker"] === "link" ? "link" : "local",
						...(row["controller"] === null ? {} : { controller: String(row["controller"]) }),
						phase: row["phase"] === "done" ? "done" : row["phase"] === "failed" ? "failed" : "running",
						createdAt: String(row["createdAt"]),
						...(row["report"] === null ? {} : { report: parseReport(row["report"]) }),
					})),
			),
		findReport: (jobId) =>
			guarded(() => {
				const row = database.prepare("SELECT report FROM jobs WHERE jobId = ?").get(jobId);
				return row?.["report"] == null ? undefined : parseReport(row["report"]);
			}),
		addJob: (job) =>
			guarded(() => {
				const used = database
					.prepare("SELECT 1 FROM jobs WHERE jobId = :jobId UNION ALL SELECT 1 FROM spent WHERE jobId = :jobId")
					.get({ jobId: job.jobId });
				if (used !== undefined)
					throw new StillpointError(
						"job-conflict",
						`job ${job.jobId} was run before; what is known of it is no longer kept`,
					);
				run(
					`INSERT INTO jobs (jobId, "order", asker, phase, createdAt, controller) VALUES (?, ?, ?, ?, ?, ?)`,
					job.jobId,
					JSON.stringify(job.order),
					job.asker,
					job.phase,
					job.createdAt,
					job.controller ?? null,
				);
			}),
		endJob: (job, sequence) =>
			guarded(() => {
				const report = JSON.stringify(job.report);
				database.exec("BEGIN IMMEDIATE");
				run(
					`INSERT INTO jobs (jobId, "order", asker, phase, createdAt, controller, report) VALUES (?, ?, ?, ?, ?, ?, ?)
					ON CONFLICT (jobId) DO UPDATE SET phase = excluded.phase, report = excluded.report`,
					job.jobId,
					JSON.stringify(job.order),
					job.asker,
					job.phase,
					job.createdAt,
					job.controller ?? null,
					report,
				);
				if (sequence !== undefined)
					run(
						"INSERT OR IGNORE INTO outbox (sequence, jobId, controller, report) VALUES (?, ?, ?, ?)",
						sequence,
						job.jobId,
						job.controller ?? null,
						report,
					);
				database.exec("COMMIT");
			}),
		readOutbox: () =>
			guarded(() =>
				database
					.prepare("SELECT sequence, jobId, controller FROM outbox ORDER BY sequence")
					.all()
					.map((row) => ({
						sequence: Number(row["sequence"]),
						jobId: String(row["jobId"]),
						...(row["controller"] === null ? {} : { controller: String(row["controller"]) }),
					})),
			),
		readOutboxReport: (sequence) =>
			guarded(() => {
				const row = database.prepare("SELECT report FROM outbox WHERE sequence = ?").get(sequence);
				return row === undefined ? undefined : parseReport(row["report"]);
			}),
		removeFromOutbox: (sequence) => guarded(() => run("DELETE FROM outbox WHERE sequence = ?", sequence)),
		nextSequence: () =>
			guarded(
				() => Number(database.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").get()?.["seq"] ?? 0) + 1,
			),
		readIdentity: () =>
			guarded(() => {
				const row = database.prepare("SELECT value FROM facts WHERE name = 'identity'").get();
				return row === undefined ? undefined : String(row["value"]);
			}),
		writeIdentity: (identity) =>
			guarded(() => run("INSERT OR REPLACE INTO facts (name, value) VALUES ('identity', ?)", identity)),
		putAside: (copy) =>
			guarded(() => {
				run("VACUUM INTO ?", copy);
				syncFile(copy);
				database.exec(`
					BEGIN IMMEDIATE;
					INSERT OR IGNORE INTO spent (jobId) SELECT jobId FROM jobs;
					DELETE FROM jobs;
					DELETE FROM outbox;
					COMMIT;
				`);
			}),
		trim: ({ jobs, reports }) =>
			guarded(() => {
				const old = database.prepare("SELECT count(*) AS count FROM jobs").get();
				if (Number(old?.["count"]) > jobs) {
					const trimmed = "phase <> 'running' AND rowid NOT IN (SELECT rowid FROM jobs ORDER BY rowid DESC LIMIT ?)";
					database.exec("BEGIN IMMEDIATE");
					run(`INSERT OR IGNORE INTO spent (jobId) SELECT jobId FROM jobs WHERE ${trimmed}`, jobs);
					run(`DELETE FROM jobs WHERE ${trimmed}`, jobs);
					database.exec("COMMIT");
				}
				if (Number(old?.["count"]) > reports)
					run(
						`UPDATE jobs SET report = NULL WHERE report IS NOT NULL
						AND rowid NOT IN (SELECT rowid FROM jobs ORDER BY rowid DESC LIMIT ?)`,
						reports,
					);
			}),
		[Symbol.dispose]: () => database.close(),
	};
}
