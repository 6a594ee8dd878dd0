/** How MySQL (8.0.22 or newer) is held: no DDL (LOCK INSTANCE FOR BACKUP), then no commit (global read lock). */
import { exits, HoldError } from "../kit/hold-session.mjs";
import { requireDurable } from "./durable-log.mjs";
import { errorNumber } from "./sql-client.mjs";

const lockTypes = ["BACKUP LOCK", "COMMIT", "GLOBAL"];

export const mysql = {
	rights:
		"GRANT RELOAD, BACKUP_ADMIN, PROCESS, REPLICATION CLIENT ON *.* TO ...; GRANT SELECT ON performance_schema.* TO ...",
	position: "SELECT @@GLOBAL.gtid_executed",
	logNames: ["Innodb_redo_log_current_lsn", "Innodb_redo_log_flushed_to_disk_lsn"],

	/** Both change nothing: there is no lock to let go. */
	async requireRights(client) {
		await client.query("UNLOCK INSTANCE");
		const grants = (await client.query("SHOW GRANTS")).flat().join("\n");
		if (!/\b(RELOAD|ALL PRIVILEGES)\b/.test(grants))
			throw new HoldError(exits.denied, "the RELOAD privilege is missing");
	},

	async take(client, { lockTimeoutMs, longQueryLimitMs }) {
		await client.query("FLUSH LOCAL ENGINE LOGS");
		const untilMs = performance.now() + lockTimeoutMs;
		const lock = async (statement) => {
			const leftMs = Math.max(1, Math.ceil(untilMs - performance.now()));
			const limit = `SET SESSION lock_wait_timeout = ${Math.ceil(leftMs / 1000)}`;
			await client.query(`${limit}; ${statement}`, leftMs + client.answerLimitMs);
		};
		await lock("LOCK INSTANCE FOR BACKUP");
		await refuseLongQueries(client, longQueryLimitMs);
		await lock("FLUSH LOCAL TABLES WITH READ LOCK");
		await requireDurable(client, this.logNames, lockTimeoutMs);
		await requireLocks(client);
	},

	async release(client) {
		await requireLocks(client);
		await client.query("UNLOCK TABLES; UNLOCK INSTANCE");
	},
};

/**
 * FLUSH TABLES waits for statements that use a table, and all later statements on that table wait for it, even when the
 * flush gave up: until the long one ends.
 */
async function refuseLongQueries(client, limitMs) {
	const [long] = await client.query(
		"SELECT ID, TIME FROM performance_schema.processlist WHERE ID <> CONNECTION_ID() AND USER <> 'system user' " +
			`AND COMMAND IN ('Query', 'Execute', 'Fetch') AND TIME * 1000 >= ${limitMs} ORDER BY TIME DESC LIMIT 1`,
	);
	if (long === undefined) return;
	const [id, seconds] = long;
	throw new HoldError(
		exits.temporary,
		`connection ${id} runs a statement for ${seconds} s: a flush would wait for it, and everybody for the flush`,
	);
}

/** Nothing to say where metadata locks are not instrumented. */
async function requireLocks(client) {
	let held;
	try {
		held = await client.query(
			"SELECT OBJECT_TYPE FROM performance_schema.metadata_locks WHERE LOCK_STATUS = 'GRANTED' " +
				"AND OWNER_THREAD_ID = (SELECT THREAD_ID FROM performance_schema.threads WHERE PROCESSLIST_ID = CONNECTION_ID())",
		);
	} catch (error) {
		if (errorNumber(error) === undefined) throw error;
		throw new HoldError(exits.denied, `the locks can't be looked at: ${error.message}`, { cause: error });
	}
	const types = held.flat();
	if (types.length === 0) return;
	const missing = lockTypes.filter((type) => !types.includes(type));
	if (missing.length > 0) throw new HoldError(exits.internal, `not locked: ${missing.join(", ")}`);
}
