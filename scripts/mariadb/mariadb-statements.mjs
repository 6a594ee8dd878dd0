/** How MariaDB (10.5.2 or newer) is held: BACKUP STAGE, up to the stage in which nothing can be committed. */
import { exits, HoldError } from "../kit/hold-session.mjs";
import { requireDurable } from "./durable-log.mjs";
import { errorNumber } from "./sql-client.mjs";

const stages = ["START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"];
/** "You must start backup with BACKUP STAGE START": mariadb.com/kb, error codes. */
const notStarted = 4146;

export const mariadb = {
	rights: "GRANT RELOAD, SLAVE MONITOR ON *.* TO ...",
	position: "SELECT @@GLOBAL.gtid_binlog_pos, @@GLOBAL.gtid_current_pos",
	logNames: ["Innodb_lsn_current", "Innodb_lsn_flushed"],

	/** Changes nothing: the end of a stage that was never begun is refused, after the rights were looked at. */
	async requireRights(client) {
		try {
			await client.query("BACKUP STAGE END");
		} catch (error) {
			if (errorNumber(error) !== notStarted) throw error;
		}
	},

	/** All stages together may wait for others for `lockTimeoutMs`. */
	async take(client, { lockTimeoutMs }) {
		// Most of the log is written before anybody waits for it.
		await client.query("FLUSH LOCAL ENGINE LOGS");
		const untilMs = performance.now() + lockTimeoutMs;
		for (const stage of stages) {
			const leftMs = Math.ceil(untilMs - performance.now());
			if (leftMs <= 0) throw new HoldError(exits.temporary, `others kept locks for longer than ${lockTimeoutMs} ms`);
			// The first counts whole seconds, the second is exact.
			const limits = `lock_wait_timeout = ${Math.ceil(leftMs / 1000)}, max_statement_time = ${leftMs / 1000}`;
			await client.query(`SET SESSION ${limits}; BACKUP STAGE ${stage}`, leftMs + client.answerLimitMs);
		}
		await client.query("SET SESSION max_statement_time = 0");
		await requireDurable(client, this.logNames, lockTimeoutMs);
	},

	/** Refused by the server unless this very connection is in a stage. */
	async release(client) {
		await client.query("BACKUP STAGE END");
	},
};
