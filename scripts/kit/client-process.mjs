/**
 * A server's own command-line client as a long-lived process: statements go to its stdin, answers are read from its
 * stdout up to a mark. One process is one connection, so what the connection holds ends with it.
 */
import { spawn } from "node:child_process";
import { exits, HoldError } from "./hold-session.mjs";

const maxKeptBytes = 64 * 1024;
const maxAnswerBytes = 1024 * 1024;
/** From the end of its stdin to SIGKILL. */
const endLimitMs = 1_000;

export class ClientProcess {
	#child;
	#stdout = "";
	#stderr = "";
	#waiting;
	#count = 0;
	#ended = Promise.withResolvers();
	#isEnded = false;

	/**
	 * @param {string} program absolute path, or a name that is looked up in PATH
	 * @param {string[]} args never a secret: everybody can read them
	 * @param {object} options
	 * @param {Record<string, string>} [options.env] all of its environment besides PATH
	 * @param {number} [options.uid] with `gid`: whom it runs as
	 * @param {number} [options.gid]
	 */
	constructor(program, args, { env = {}, uid, gid } = {}) {
		this.program = program;
		this.#child = spawn(program, args, {
			stdio: ["pipe", "pipe", "pipe"],
			env: { PATH: process.env.PATH ?? "", LC_ALL: "C.UTF-8", ...env },
			cwd: "/",
			...(uid === undefined ? {} : { uid, gid }),
		});
		this.#child.stdin.on("error", () => undefined);
		this.#child.stdout.on("data", (chunk) => this.#read(chunk.toString("utf8")));
		this.#child.stderr.on("data", (chunk) => {
			this.#stderr = `${this.#stderr}${chunk}`.slice(-maxKeptBytes);
		});
		this.#child.on("error", (error) => {
			const missing = error.code === "ENOENT";
			this.#end(missing ? `${program} is not installed` : `${program}: ${error.message}`);
		});
		this.#child.on("close", (code, signal) => {
			const how = signal === null ? `exit status ${code}` : `ended by ${signal}`;
			this.#end(`${program}: ${this.stderrTail() || how}`);
		});
	}

	get pid() {
		return this.#child.pid;
	}

	/** Resolves with the reason when it has ended, for whatever cause. */
	get ended() {
		return this.#ended.promise;
	}

	get isEnded() {
		return this.#isEnded;
	}

	/** The last line of its stderr. */
	stderrTail() {
		return this.#stderr.trim().split("\n").at(-1) ?? "";
	}

	/**
	 * Sends `text`, which must make the client print `mark` on a line of its own after the answer, and returns the lines
	 * before it. One at a time.
	 * @throws HoldError `unavailable` when the client ends first, `temporary` when the mark does not come in time
	 */
	async ask(text, mark, limitMs) {
		if (this.#waiting !== undefined) throw new HoldError(exits.internal, "the client is still busy");
		if (this.#isEnded) throw new HoldError(exits.unavailable, await this.ended);
		const waiting = { mark, ...Promise.withResolvers() };
		this.#waiting = waiting;
		this.#stdout = "";
		const limit = setTimeout(() => {
			waiting.reject(new HoldError(exits.temporary, `${this.program}: no answer within ${limitMs} ms`));
		}, limitMs);
		this.#child.stdin.write(text);
		try {
			return await waiting.promise;
		} finally {
			clearTimeout(limit);
			this.#waiting = undefined;
		}
	}

	/** A word that no answer contains by chance. */
	nextMark() {
		this.#count += 1;
		return `stillpoint-${process.pid}-${this.#count}-${Math.random().toString(36).slice(2)}`;
	}

	/** Ends its stdin, so that it leaves by itself; kills it when it does not. */
	async close(limitMs = endLimitMs) {
		if (!this.#isEnded) this.#child.stdin.end();
		const limit = setTimeout(() => this.#child.kill("SIGKILL"), limitMs);
		await this.ended;
		clearTimeout(limit);
	}

	#read(text) {
		this.#stdout += text;
		const waiting = this.#waiting;
		if (waiting === undefined) {
			this.#stdout = this.#stdout.slice(-maxKeptBytes);
			return;
		}
		if (this.#stdout.length > maxAnswerBytes) {
			waiting.reject(new HoldError(exits.internal, `${this.program}: an answer larger than ${maxAnswerBytes} bytes`));
			return;
		}
		const lines = this.#stdout.split("\n");
		const end = lines.indexOf(waiting.mark);
		if (end !== -1 && end < lines.length - 1) waiting.resolve(lines.slice(0, end));
	}

	#end(reason) {
		if (this.#isEnded) return;
		this.#isEnded = true;
		this.#waiting?.reject(new HoldError(exits.unavailable, reason));
		this.#ended.resolve(reason);
	}
}
