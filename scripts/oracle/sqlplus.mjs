/** Oracle by its own sqlplus: one long-lived connection by the operating system's word, without any password. */
import { join } from "node:path";
import { ClientProcess } from "../kit/client-process.mjs";
import { commandAs } from "../kit/command-as.mjs";
import { clientProgram } from "../kit/command-line.mjs";
import { exits, HoldError } from "../kit/hold-session.mjs";

/** So that an answer is nothing but rows. -S: no banner, no prompt; -R 3: no command that touches files. */
const settings = [
	"SET HEADING OFF",
	"SET FEEDBACK OFF",
	"SET PAGESIZE 0",
	"SET LINESIZE 32767",
	"SET TRIMOUT ON",
	"SET TAB OFF",
	"SET DEFINE OFF",
	"SET ECHO OFF",
	"SET TIMING OFF",
	"SET SERVEROUTPUT OFF",
	"WHENEVER SQLERROR CONTINUE",
];
const separator = "|";

export class Sqlplus {
	#client;
	#limitMs;

	constructor({ sid, oracleHome, clientFolder, osUser, lockTimeoutMs }) {
		const program = clientProgram(clientFolder ?? join(oracleHome, "bin"), "sqlplus");
		this.#limitMs = lockTimeoutMs;
		this.#client = new ClientProcess(...commandAs(osUser, program, ["-S", "-L", "-R", "3", "/nolog"]), {
			env: {
				ORACLE_SID: sid,
				ORACLE_HOME: oracleHome,
				LD_LIBRARY_PATH: join(oracleHome, "lib"),
				// Messages and dates that do not depend on the machine.
				NLS_LANG: "AMERICAN_AMERICA.AL32UTF8",
				NLS_DATE_FORMAT: "YYYY-MM-DD HH24:MI:SS",
			},
		});
	}

	get ended() {
		return this.#client.ended;
	}

	/**
	 * @param {"SYSBACKUP" | "SYSDBA"} privilege
	 * @param {string} module how the session is named in the server
	 */
	async connect(privilege, module) {
		// CONNECT runs the site's glogin.sql, which may set anything. APPINFO names our sessions in v$session.
		const words = [`CONNECT / AS ${privilege}`, ...settings, `SET APPINFO '${module}'`];
		const answer = await this.#ask(words.join("\n"), this.#limitMs);
		if (answer.some((line) => line.includes("idle instance")))
			throw new HoldError(exits.unavailable, "the instance is not running");
	}

	/** The rows of a query, of which each column is an expression that makes text. */
	async rows(columns, from) {
		const lines = await this.run(`SELECT ${columns.join(` || '${separator}' || `)} FROM ${from};`);
		return lines.map((line) => line.split(separator));
	}

	/** @throws HoldError for an error that the server answers */
	async run(statement, limitMs = this.#limitMs) {
		return await this.#ask(statement, limitMs);
	}

	async close() {
		await this.#client.close();
	}

	async #ask(text, limitMs) {
		const mark = this.#client.nextMark();
		const lines = await this.#client.ask(`${text}\nPROMPT ${mark}\n`, mark, limitMs);
		const answer = lines.map((line) => line.trim()).filter((line) => line !== "");
		const error = answer.find((line) => /^(ORA|SP2|TNS|PLS)-\d+/.test(line));
		if (error !== undefined) throw new HoldError(exitOf(error), error);
		return answer;
	}
}

function exitOf(error) {
	// Insufficient privileges; invalid user or password.
	if (/^ORA-(01031|01017)/.test(error)) return exits.denied;
	// Not available; a file is in backup mode already; shutting down or starting.
	if (/^ORA-(01034|12162|12505|01012|03113|03114)/.test(error)) return exits.unavailable;
	if (/^ORA-(01146|01033|01089|01090)/.test(error)) return exits.temporary;
	return exits.unavailable;
}
