import { setTimeout as sleep } from "node:timers/promises";
import { exits, HoldError } from "../kit/hold-session.mjs";

const pollMs = 10;

/**
 * With innodb_flush_log_at_trx_commit of 0 a transaction is acknowledged whose log is in the server's memory only, where
 * no freeze reaches it. What was logged until now must be in the file afterwards. MariaDB ignores FLUSH ENGINE LOGS
 * with that very setting; then its own timer is waited for (innodb_flush_log_at_timeout, 1 s).
 */
export async function requireDurable(client, [currentName, writtenName], limitMs) {
	const wanted = await readNumber(client, currentName);
	await client.query("FLUSH LOCAL ENGINE LOGS");
	if (wanted === undefined) return;
	const untilMs = performance.now() + limitMs;
	while ((await readNumber(client, writtenName)) < wanted) {
		if (performance.now() > untilMs) {
			throw new HoldError(
				exits.temporary,
				`the server did not write its log within ${limitMs} ms; set innodb_flush_log_at_trx_commit to 1 or 2, or ` +
					"innodb_flush_log_at_timeout lower",
			);
		}
		await sleep(pollMs);
	}
}

/** Of the server's status; undefined when it does not tell (without InnoDB). */
async function readNumber(client, name) {
	const [row] = await client.query(`SHOW GLOBAL STATUS WHERE Variable_name = '${name}'`);
	return row === undefined ? undefined : BigInt(row[1]);
}
