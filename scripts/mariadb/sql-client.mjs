/**
 * One connection to MariaDB or MySQL, by the client program `mariadb` or `mysql`. It runs without --force: the first
 * error ends the client, the connection, and all that the connection holds.
 */
import { ClientProcess } from "../kit/client-process.mjs";
import { commandAs } from "../kit/command-as.mjs";
import { clientProgram } from "../kit/command-line.mjs";
import { openCredentialsFile } from "../kit/credentials-file.mjs";
import { exits, HoldError } from "../kit/hold-session.mjs";

/** Error numbers of servers and clients, and what they mean here. */
const meanings = new Map([
	[exits.denied, [1044, 1045, 1142, 1227, 1370, 1698, 3118, 4151, 1524, 1862]],
	[exits.temporary, [1040, 1203, 1205, 1226, 1317, 1969, 3024, 1129]],
	[exits.unavailable, [1053, 1077, 1927, 2002, 2003, 2005, 2006, 2013, 2026]],
]);

export class SqlClient {
	#process;
	#credentials;

	/**
	 * @param {object} options
	 * @param {string} [options.clientFolder] where the client lies; default: PATH
	 * @param {string} [options.clientName] `mariadb` or `mysql`
	 * @param {string} [options.osUser] whom the client runs as; not with `credentials`
	 * @param {string} [options.credentials] option file; the only one that is read. Without it none is
	 * @param {string} [options.socket]
	 * @param {string} [options.host] with `port`: TCP
	 * @param {number} [options.port]
	 * @param {number} options.answerLimitMs of the connection, and of what takes no locks
	 */
	constructor(options) {
		this.answerLimitMs = options.answerLimitMs;
		if (options.credentials !== undefined) this.#credentials = openCredentialsFile(options.credentials);
		const program = clientProgram(options.clientFolder, options.clientName);
		const [command, args] = commandAs(options.osUser, program, clientArguments(options, this.#credentials));
		// The files that a client reads without being told, and writes: MySQL reads .mylogin.cnf in spite of --no-defaults.
		this.#process = new ClientProcess(command, args, {
			env: { MYSQL_TEST_LOGIN_FILE: "/dev/null", MYSQL_HISTFILE: "/dev/null", MARIADB_HISTFILE: "/dev/null" },
		});
	}

	/** Resolves with the reason. */
	get ended() {
		return this.#process.ended;
	}

	/** Answers the rows of all statements, as texts; NULL is the text NULL. @throws HoldError */
	async query(sql, limitMs = this.answerLimitMs) {
		const mark = this.#process.nextMark();
		try {
			const lines = await this.#process.ask(`${sql};\nSELECT '${mark}';\n`, mark, limitMs);
			return lines.map((line) => line.split("\t").map(unescapeText));
		} catch (error) {
			throw explain(error);
		}
	}

	/** One row of one statement. */
	async row(sql) {
		const [first] = await this.query(sql);
		if (first === undefined) throw new HoldError(exits.internal, `no row for ${sql}`);
		return first;
	}

	async close() {
		await this.#process.close();
		if (this.#credentials !== undefined) this.#credentials[Symbol.dispose]();
		this.#credentials = undefined;
	}
}

function clientArguments({ socket, host, port, answerLimitMs }, credentials) {
	return [
		// Must be the first. The client opens the very file that was checked; its name is on no command line.
		credentials === undefined ? "--no-defaults" : `--defaults-file=${credentials.path}`,
		"--batch",
		"--skip-column-names",
		"--unbuffered",
		"--skip-reconnect",
		"--skip-force",
		"--skip-auto-rehash",
		"--binary-mode",
		"--local-infile=0",
		`--connect-timeout=${Math.ceil(answerLimitMs / 1000)}`,
		...(socket === undefined ? [] : ["--protocol=socket", `--socket=${socket}`]),
		...(host === undefined ? [] : ["--protocol=tcp", `--host=${host}`]),
		...(port === undefined ? [] : [`--port=${port}`]),
	];
}

/** The number of the server's or client's error, when it is one. */
export function errorNumber(error) {
	const number = /ERROR (\d+)/.exec(error.message)?.[1];
	return number === undefined ? undefined : Number(number);
}

function explain(error) {
	const number = errorNumber(error);
	if (number === undefined) return error;
	for (const [exitCode, numbers] of meanings) {
		if (numbers.includes(number)) return new HoldError(exitCode, error.message, { cause: error });
	}
	return new HoldError(exits.internal, error.message, { cause: error });
}

function unescapeText(text) {
	const meaning = { n: "\n", t: "\t", 0: "\0", "\\": "\\" };
	return text.replace(/\\([nt0\\])/g, (_, letter) => meaning[letter]);
}
