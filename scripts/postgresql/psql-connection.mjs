/** Statements and their answers over one psql, which is one connection. */
import { exits, HoldError } from "../kit/hold-session.mjs";
import { readProcess } from "../kit/local-process.mjs";

/** Errors of the server by SQLSTATE (its documentation's appendix A), where they mean something of their own. */
const meanings = {
	42501: exits.denied,
	"55P03": exits.temporary,
	57014: exits.temporary,
	55000: exits.config,
};

export class PsqlConnection {
	#client;

	/** @param {import("../kit/client-process.mjs").ClientProcess} client psql -X -q -A -t -w, from version 11 on */
	constructor(client) {
		this.#client = client;
		this.process = client.pid === undefined ? undefined : { what: "psql", ...readProcess(client.pid) };
	}

	/** @returns the one JSON document that the statement selects; throws HoldError in the server's words */
	async read(statement, limitMs) {
		const rows = await this.run(statement, limitMs);
		try {
			return JSON.parse(rows.join("\n"));
		} catch (cause) {
			throw new HoldError(exits.internal, "psql answered something that is no JSON", { cause });
		}
	}

	/** @returns {Promise<string[]>} the lines of the answer */
	async run(statement, limitMs) {
		const told = this.#client.nextMark();
		const mark = this.#client.nextMark();
		const text = [
			`${statement};`,
			`\\echo ${told} :ERROR :SQLSTATE`,
			"\\if :ERROR",
			"\\echo :LAST_ERROR_MESSAGE",
			"\\endif",
			`\\echo ${mark}`,
			"",
		];
		const lines = await this.#ask(text.join("\n"), mark, limitMs);
		const at = lines.findIndex((line) => line.startsWith(`${told} `));
		const [, failed, sqlState] = (lines[at] ?? "").split(" ");
		if (failed === "false") return lines.slice(0, at);
		const message = lines.slice(at + 1).join(" ");
		throw new HoldError(meanings[sqlState] ?? exits.internal, `${message} (SQLSTATE ${sqlState})`);
	}

	/** Why psql could not connect, or lost its connection, stands in several lines. */
	async #ask(text, mark, limitMs) {
		try {
			return await this.#client.ask(text, mark, limitMs);
		} catch (error) {
			if (!this.#client.isEnded) throw error;
			throw new HoldError(error.exitCode, this.#client.stderrText() || error.message, { cause: error });
		}
	}

	async close() {
		await this.#client.close();
	}
}
