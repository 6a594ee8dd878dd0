import { chmodSync } from "node:fs";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { StillpointError } from "../contracts/errors.ts";
import { reportSchema } from "../contracts/report.ts";
import type { RecoveryPointRow, Store, StoredAgent, StoredCredential, StoredJob, TicketAnswer } from "./store.ts";
import type { Ticket } from "./ticket-seal.ts";

/** One text for each version of the schema: what makes it from the one before. */
const migrations = [
	`
create table tokens (id text primary key, secret_hash text not null, expires_at text not null, used_at text) strict;
create table agents (
	agent_id text primary key, machine text not null, enrolled_at text not null, last_seen_at text, disks text not null
) strict;
create table jobs (
	job_id text primary key, agent_id text not null, ordered_at text not null, ended_at text,
	job text not null, request text not null
) strict;
create index jobs_by_time on jobs (ordered_at);
create table agent_jobs (
	agent_id text not null, agent_job_id text not null, job_id text not null references jobs,
	primary key (agent_id, agent_job_id)
) strict;
create table reports (
	agent_id text not null, agent_job_id text not null, sequence integer not null, report text not null,
	primary key (agent_id, agent_job_id)
) strict;
create table recovery_points (
	id text primary key, agent_id text not null, job_id text not null, created_at text not null
) strict;
`,
	`
create table rejected_reports (
	agent_id text not null, sequence integer not null, received_at text not null, report text not null
) strict;
create index rejected_reports_by_agent on rejected_reports (agent_id);
`,
	`
alter table agents add column revoked text;
alter table agents add column ticket text;
alter table agents add column ticket_given text;
alter table agents add column ticket_counter integer not null default 0;
create table enrolment_requests (
	id text primary key, at text not null, machine_key text not null unique, request text not null
) strict;
create table credentials (
	name text primary key, role text not null, serial text not null, created_at text not null, expires_at text not null,
	revoked_at text
) strict;
create table audit (
	sequence integer primary key autoincrement, actor text not null, action text not null, target text,
	outcome text not null, entry text not null
) strict;
create index audit_by_actor on audit (actor);
create index audit_by_action on audit (action);
create index audit_by_target on audit (target);
create index audit_by_outcome on audit (outcome);
`,
];

/** Of one agent; each is at most one frame. */
const rejectedReportsKept = 8;
const enrolmentRequestsKept = 100;
const auditFilters: readonly string[] = ["actor", "action", "target", "outcome"];

/**
 * The store in one file. A rollback journal and not WAL, because the database is locked for this process alone anyway
 * and one file is easier to carry away. `already-running` when another controller has it open.
 */
export function openSqliteStore(path: string): Store {
	const database = openDatabase(path);
	const run = (sql: string, ...values: SQLInputValue[]) => database.prepare(sql).run(...values);
	const all = (sql: string, ...values: SQLInputValue[]) =>
		database.prepare(sql).all(...values) as Record<string, string>[];
	const first = (sql: string, ...values: SQLInputValue[]) => all(sql, ...values)[0];

	function inTransaction<T>(work: () => T): T {
		database.exec("begin immediate");
		try {
			const result = work();
			database.exec("commit");
			return result;
		} catch (error) {
			if (database.isTransaction) database.exec("rollback");
			throw error;
		}
	}

	function linkAgentJobs({ job, agentJobIds }: StoredJob): void {
		for (const id of agentJobIds) run("insert or ignore into agent_jobs values (?, ?, ?)", job.agentId, id, job.jobId);
	}

	function readJob(row: Record<string, string> | undefined): StoredJob | undefined {
		if (row === undefined) return undefined;
		const ids = all("select agent_job_id from agent_jobs where job_id = ? order by rowid", row["job_id"] as string);
		return {
			job: JSON.parse(row["job"] as string),
			request: row["request"] as string,
			agentJobIds: ids.map((one) => one["agent_job_id"] as string),
		};
	}
	const readJobs = (rows: Record<string, string>[]) => rows.flatMap((row) => readJob(row) ?? []);

	function putCredential({ name, role, serial, createdAt, expiresAt, revokedAt }: StoredCredential): void {
		const values = [name, role, serial, createdAt, expiresAt, revokedAt ?? null];
		run("insert or replace into credentials values (?, ?, ?, ?, ?, ?)", ...values);
	}

	const usable = "id = ? and secret_hash = ? and used_at is null and expires_at > ?";

	return {
		addToken: answered(({ id, secretHash, expiresAt }) => {
			inTransaction(() => {
				run("delete from tokens where expires_at < ?", new Date().toISOString());
				run("insert into tokens values (?, ?, ?, null)", id, secretHash, expiresAt);
			});
		}),
		isTokenUsable: answered(
			({ id, secretHash }, now) => first(`select 1 from tokens where ${usable}`, id, secretHash, now) !== undefined,
		),
		useToken: answered(
			({ id, secretHash }, now) =>
				run(`update tokens set used_at = ? where ${usable}`, now, id, secretHash, now).changes === 1,
		),

		addAgent: answered((agent) => {
			const { agentId, machine, enrolledAt, disks } = agent;
			const values = [agentId, JSON.stringify(machine), enrolledAt, JSON.stringify(disks)];
			run("insert into agents (agent_id, machine, enrolled_at, disks) values (?, ?, ?, ?)", ...values);
		}),
		findAgent: answered((agentId) => parseAgent(first("select * from agents where agent_id = ?", agentId))),
		listAgents: answered(() =>
			all("select * from agents order by enrolled_at").flatMap((row) => parseAgent(row) ?? []),
		),
		setDisks: answered(
			(agentId, disks) =>
				run("update agents set disks = ? where agent_id = ?", JSON.stringify(disks), agentId).changes === 1,
		),
		setSeen: answered((agentId, at, machine) => {
			const text = machine === undefined ? null : JSON.stringify(machine);
			run("update agents set last_seen_at = ?, machine = coalesce(?, machine) where agent_id = ?", at, text, agentId);
		}),
		revokeAgent: answered((agentId, at, reason) => {
			const sql = "update agents set revoked = coalesce(revoked, ?) where agent_id = ?";
			return run(sql, JSON.stringify({ at, reason }), agentId).changes === 1;
		}),
		removeAgent: answered((agentId) => run("delete from agents where agent_id = ?", agentId).changes === 1),
		exchangeTicket: answered(
			(agentId, shown, nextRandom): TicketAnswer =>
				inTransaction(() => {
					const row = first("select ticket, ticket_given, ticket_counter from agents where agent_id = ?", agentId);
					if (row === undefined) return { is: "changed" };
					const { ticket, ticket_given: given, ticket_counter: known } = row;
					const kept = shown === undefined ? null : ticketText(shown);
					const isAhead = shown !== undefined && shown.counter > Number(known);
					const isFirst = ticket === null && given === null;
					const isKnown = kept !== null && (kept === ticket || kept === given);
					if (!isFirst && !isKnown && !isAhead) return { is: "changed" };
					const counter = Math.max(Number(known), shown?.counter ?? 0) + 1;
					const next = ticketText({ counter, random: nextRandom });
					const sql = "update agents set ticket = ?, ticket_given = ?, ticket_counter = ? where agent_id = ?";
					run(sql, kept, next, counter, agentId);
					return { is: isAhead ? "ahead" : "known", counter };
				}),
		),
		confirmTicket: answered((agentId, ticket) => {
			const sql =
				"update agents set ticket = ticket_given, ticket_given = null where agent_id = ? and ticket_given = ?";
			run(sql, agentId, ticketText(ticket));
		}),

		addEnrolmentRequest: answered((request) =>
			inTransaction(() => {
				const { id, at, machine, address } = request;
				const machineKey = machine.machineId ?? `${machine.hostname} ${address}`;
				const values = [id, at, machineKey, JSON.stringify(request)];
				run("delete from enrolment_requests where machine_key = ?", machineKey);
				run("insert into enrolment_requests values (?, ?, ?, ?)", ...values);
				const latest = "select rowid from enrolment_requests order by rowid desc limit ?";
				run(`delete from enrolment_requests where rowid not in (${latest})`, enrolmentRequestsKept);
			}),
		),
		listEnrolmentRequests: answered(() =>
			all("select request from enrolment_requests order by rowid desc").map((row) =>
				JSON.parse(row["request"] as string),
			),
		),
		removeEnrolmentRequest: answered((id) => run("delete from enrolment_requests where id = ?", id).changes === 1),

		addCredential: answered((credential, now) =>
			inTransaction(() => {
				const inForce = "select 1 from credentials where name = ? and revoked_at is null and expires_at > ?";
				if (first(inForce, credential.name, now) !== undefined) return false;
				putCredential(credential);
				return true;
			}),
		),
		replaceCredential: answered(putCredential),
		findCredential: answered((name) => parseCredential(first("select * from credentials where name = ?", name))),
		listCredentials: answered(() =>
			all("select * from credentials order by created_at, name").flatMap((row) => parseCredential(row) ?? []),
		),
		revokeCredential: answered(
			(name, at) =>
				run("update credentials set revoked_at = ? where name = ? and revoked_at is null", at, name).changes === 1,
		),

		addAuditEntry: answered((entry) => {
			const values = [entry.actor, entry.action, entry.target ?? null, entry.outcome, JSON.stringify(entry)];
			const sql = "insert into audit (actor, action, target, outcome, entry) values (?, ?, ?, ?, ?)";
			return Number(run(sql, ...values).lastInsertRowid);
		}),
		settleAuditEntry: answered((sequence, { outcome, target, details }) => {
			const change = JSON.stringify({ outcome, target, details });
			const sql = `update audit set outcome = ?2, target = coalesce(?3, target), entry = json_patch(entry, ?4)
				where sequence = ?1 and outcome = 'begun'`;
			run(sql, sequence, outcome, target ?? null, change);
		}),
		listAudit: answered(({ limit, before, ...words }) => {
			// Only what is asked for stands in the query, so that its index is used: the log grows for ever.
			const wanted = Object.entries(words).filter(([column]) => auditFilters.includes(column));
			const where = ["sequence < ?", ...wanted.map(([column]) => `${column} = ?`)].join(" and ");
			const values = [before ?? Number.MAX_SAFE_INTEGER, ...wanted.map(([, value]) => value), limit];
			const sql = `select sequence, entry from audit where ${where} order by sequence desc limit ?`;
			return all(sql, ...values).map((row) => ({
				sequence: Number(row["sequence"]),
				...JSON.parse(row["entry"] as string),
			}));
		}),

		addJob: answered((stored) =>
			inTransaction(() => {
				const { job, request } = stored;
				const values = [job.jobId, job.agentId, job.orderedAt, JSON.stringify(job), request];
				const { changes } = run("insert or ignore into jobs values (?, ?, ?, null, ?, ?)", ...values);
				if (changes === 1) linkAgentJobs(stored);
				return changes === 1;
			}),
		),
		saveJob: answered((stored, recoveryPoint) =>
			inTransaction(() => {
				const { job } = stored;
				const values = [JSON.stringify(job), job.endedAt ?? null, job.jobId];
				run("update jobs set job = ?, ended_at = ? where job_id = ?", ...values);
				linkAgentJobs(stored);
				if (recoveryPoint === undefined) return;
				const { id, agentId, jobId, createdAt } = recoveryPoint;
				run("insert or ignore into recovery_points values (?, ?, ?, ?)", id, agentId, jobId, createdAt);
			}),
		),
		findJob: answered((jobId) => readJob(first("select * from jobs where job_id = ?", jobId))),
		findJobOfAgent: answered((agentId, agentJobId) =>
			readJob(
				first(
					"select jobs.* from jobs join agent_jobs using (job_id) where agent_jobs.agent_id = ? and agent_job_id = ?",
					agentId,
					agentJobId,
				),
			),
		),
		listJobs: answered((limit) =>
			readJobs(all("select * from jobs order by ordered_at desc, rowid desc limit ?", limit)),
		),
		listOpenJobs: answered(() => readJobs(all("select * from jobs where ended_at is null"))),

		addReport: answered((agentId, sequence, report) => {
			const values = [agentId, report.jobId, sequence, JSON.stringify(report)];
			return run("insert or ignore into reports values (?, ?, ?, ?)", ...values).changes === 1;
		}),
		addRejectedReport: answered((agentId, sequence, at, text) =>
			inTransaction(() => {
				run("insert into rejected_reports values (?, ?, ?, ?)", agentId, sequence, at, text);
				const latest = "select rowid from rejected_reports where agent_id = ? order by rowid desc limit ?";
				const sql = `delete from rejected_reports where agent_id = ? and rowid not in (${latest})`;
				run(sql, agentId, agentId, rejectedReportsKept);
			}),
		),
		findReport: answered((agentId, agentJobId) => {
			const row = first("select report from reports where agent_id = ? and agent_job_id = ?", agentId, agentJobId);
			return row === undefined ? undefined : reportSchema.parse(JSON.parse(row["report"] as string));
		}),

		findRecoveryPoint: answered((id) => parseRecoveryPoint(first("select * from recovery_points where id = ?", id))),
		listRecoveryPoints: answered((agentId) =>
			all(
				"select * from recovery_points where ? is null or agent_id = ? order by created_at desc, rowid desc",
				agentId ?? null,
				agentId ?? null,
			).flatMap((row) => parseRecoveryPoint(row) ?? []),
		),
		async [Symbol.asyncDispose]() {
			database.close();
		},
	};
}

function openDatabase(path: string): DatabaseSync {
	let database: DatabaseSync | undefined;
	try {
		database = new DatabaseSync(path, { timeout: 500 });
		chmodSync(path, 0o600);
		database.exec("pragma locking_mode = exclusive; pragma journal_mode = truncate; pragma synchronous = full;");
		// Takes the lock for good; a later version of the schema is met under it.
		database.exec("begin exclusive");
		const found = Number(database.prepare("pragma user_version").get()?.["user_version"]);
		if (found > migrations.length)
			throw new StillpointError("version-unsupported", `${path} was written by a newer controller (schema ${found})`);
		const check = found === 0 ? undefined : database.prepare("pragma quick_check(1)").get();
		if (check !== undefined && check["quick_check"] !== "ok")
			throw new StillpointError("state-unusable", `${path} is damaged: ${String(check["quick_check"])}`);
		for (const migration of migrations.slice(found)) database.exec(migration);
		database.exec(`pragma user_version = ${migrations.length}`);
		database.exec("commit");
		return database;
	} catch (error) {
		database?.close();
		if (error instanceof StillpointError) throw error;
		if ((error as { errcode?: number }).errcode === 13)
			throw new StillpointError("disk-full", `${path} cannot grow`, { cause: error });
		if (error instanceof Error && error.message.includes("locked"))
			throw new StillpointError("already-running", `another controller uses ${path}`, { cause: error });
		throw new StillpointError("state-unusable", `${path} cannot be used: ${String(error)}`, { cause: error });
	}
}

/** A synchronous answer as a promise; what it throws becomes a rejection, with a code where the cause is known. */
function answered<A extends unknown[], T>(work: (...values: A) => T): (...values: A) => Promise<T> {
	return async (...values) => {
		try {
			return work(...values);
		} catch (error) {
			const { errcode } = error as { errcode?: number };
			// SQLITE_FULL, https://sqlite.org/rescode.html
			if (errcode === 13)
				throw new StillpointError("disk-full", "the controller's database cannot grow", { cause: error });
			throw error;
		}
	};
}

function ticketText({ counter, random }: Ticket): string {
	return `${counter}.${random}`;
}

function parseAgent(row: Record<string, string> | undefined): StoredAgent | undefined {
	if (row === undefined) return undefined;
	const { last_seen_at: lastSeenAt, revoked } = row;
	return {
		agentId: row["agent_id"] as string,
		machine: JSON.parse(row["machine"] as string),
		enrolledAt: row["enrolled_at"] as string,
		...(lastSeenAt ? { lastSeenAt } : {}),
		disks: JSON.parse(row["disks"] as string),
		...(revoked ? { revoked: JSON.parse(revoked) } : {}),
	};
}

function parseCredential(row: Record<string, string> | undefined): StoredCredential | undefined {
	if (row === undefined) return undefined;
	const { name, role, serial, created_at: createdAt, expires_at: expiresAt, revoked_at: revokedAt } = row;
	return {
		name: name as string,
		role: role === "operator" ? "operator" : "viewer",
		serial: serial as string,
		createdAt: createdAt as string,
		expiresAt: expiresAt as string,
		...(revokedAt ? { revokedAt } : {}),
	};
}

function parseRecoveryPoint(row: Record<string, string> | undefined): RecoveryPointRow | undefined {
	if (row === undefined) return undefined;
	const { id, agent_id: agentId, job_id: jobId, created_at: createdAt } = row as Record<string, string>;
	return { id: id as string, agentId: agentId as string, jobId: jobId as string, createdAt: createdAt as string };
}
