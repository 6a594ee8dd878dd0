/** Redis by its own redis-cli: one long-lived process for commands, and what a script has to know of the server. */
import { ClientProcess } from "../kit/client-process.mjs";
import { commandAs } from "../kit/command-as.mjs";
import { clientProgram } from "../kit/command-line.mjs";
import { readCredentials } from "../kit/credentials-file.mjs";
import { exits, HoldError } from "../kit/hold-session.mjs";

/** How often it is looked whether redis-cli complained that nobody listens: it goes on all the same. */
const complaintPollMs = 20;

/**
 * How to start redis-cli. The password goes by its environment, never on a command line.
 *
 * @returns {{ program: string, args: string[], env: Record<string, string> }}
 */
export function readConnection({ credentials, clientFolder, osUser, socket, host, port }) {
	const { user, password } = credentials === undefined ? {} : readCredentials(credentials, ["user", "password"]);
	const place = socket === undefined ? ["-h", host, "-p", String(port)] : ["-s", socket];
	const [program, args] = commandAs(osUser, clientProgram(clientFolder, "redis-cli"), [
		...place,
		...(user === undefined ? [] : ["--user", user]),
	]);
	return { program, args, env: password === undefined ? {} : { REDISCLI_AUTH: password } };
}

export class RedisClient {
	#client;
	#limitMs;
	#queue = Promise.resolve();

	constructor({ program, args, env }, limitMs) {
		this.#client = new ClientProcess(program, args, { env });
		this.#limitMs = limitMs;
	}

	get ended() {
		return this.#client.ended;
	}

	/**
	 * The lines of the answer. Commands wait for each other.
	 * @throws HoldError also for an error that the server answers
	 */
	async command(line, limitMs = this.#limitMs) {
		const turn = this.#queue.then(() => this.#ask(line, limitMs));
		this.#queue = turn.catch(() => undefined);
		return await turn;
	}

	/** INFO as a map of its fields. */
	async info(limitMs) {
		const fields = (await this.command("INFO", limitMs)).map((line) => /^(\w+):(.*?)\r?$/.exec(line));
		return new Map(fields.filter((field) => field !== null).map(([, key, value]) => [key, value]));
	}

	/** A configuration value; undefined when this server does not know it. */
	async config(name) {
		const [, value] = await this.command(`CONFIG GET ${name}`);
		return value;
	}

	/**
	 * Sends what a WRITE pause holds up and changes nothing, and leaves behind it. To be called once; no commands after it.
	 * Rejects when the connection is lost.
	 */
	async probe(limitMs) {
		const mark = this.#client.nextMark();
		await this.#client.ask(`EVAL "return ARGV[1]" 0 ${mark}\nquit\n`, mark, limitMs);
	}

	async close() {
		await this.#client.close();
	}

	/** At once: it may be held up in the server. */
	async kill() {
		await this.#client.close(0);
	}

	async #ask(line, limitMs) {
		const mark = this.#client.nextMark();
		const complaint = Promise.withResolvers();
		complaint.promise.catch(() => undefined);
		const poll = setInterval(() => {
			const error = findComplaint(this.#client.answerSoFar, this.#client.stderrTail());
			if (error !== undefined) complaint.reject(error);
		}, complaintPollMs);
		try {
			const asked = this.#client.ask(`${line}\nECHO ${mark}\n`, mark, limitMs);
			// It is lost when the complaint comes first.
			asked.catch(() => undefined);
			const answer = await Promise.race([asked, complaint.promise]);
			requireNoError(answer[0], line);
			return answer;
		} finally {
			clearInterval(poll);
		}
	}
}

/** What keeps redis-cli from printing the mark, but not from going on. */
function findComplaint(answer, stderrTail) {
	if (/^(?:\(error\) )?NOAUTH /.test(answer)) {
		const why = /AUTH failed/.test(stderrTail) ? stderrTail : "it wants a password (--credentials)";
		return new HoldError(exits.denied, `the server refuses us: ${why}`);
	}
	// Printed in two pieces, the reason last.
	if (/could not connect .*: \S/i.test(stderrTail)) return new HoldError(exits.unavailable, stderrTail);
	const error = /^Error: .*$/m.exec(answer)?.[0];
	return error === undefined ? undefined : new HoldError(exits.unavailable, error);
}

/** redis-cli prints an error as it is: a word in capitals and a text. No answer to what is asked here looks so. */
function requireNoError(first, line) {
	const code = /^(?:\(error\) )?([A-Z][A-Z]+) /.exec(first ?? "")?.[1];
	if (code === undefined) return;
	const command = line.split(" ").slice(0, 2).join(" ");
	throw new HoldError(exitOf(code), `${command}: ${first}`);
}

function exitOf(code) {
	switch (code) {
		case "NOAUTH":
		case "NOPERM":
		case "WRONGPASS":
			return exits.denied;
		case "LOADING":
		case "BUSY":
			return exits.temporary;
		default:
			return exits.unavailable;
	}
}
