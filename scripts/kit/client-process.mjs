/**
 * A server's own command-line client as a long-lived process: statements go to its stdin, answers are read from its
 * stdout up to a mark. One process is one connection, so what the connection holds ends with it.
 */
import { spawn } from "node:child_process";
import { exits, HoldError } from "./hold-session.mjs";

const maxKeptBytes = 64 * 1024;
const maxAnswerBytes = 1024 * 1024;
/** From the end of its stdin to SIGKILL, and again until it is given up: a process on a frozen disk can't be ended. */
const endLimitMs = 1_000;
/** From its end to the end of its output, which a process that it left behind may keep open for ever. */
const drainMs = 100;

export class ClientProcess {
	#child;
	#stdout = "";
	#stderr = "";
	#waiting;
	#count = 0;
	#ended = Promise.withResolvers();
	#isEnded = false;
	#spoiled;

	/**
	 * @param {string} program absolute path, or a name that is looked up in PATH
	 * @param {string[]} args never a secret: everybody can read them
	 * @param {object} options
	 * @param {Record<string, string>} [options.env] all of its environment besides PATH and LC_ALL
	 * @param {number} [options.uid] with `gid`: whom it runs as, without further groups
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
		for (const stream of this.#child.stdio) stream?.on("error", () => undefined);
		this.#child.stdout?.setEncoding("utf8").on("data", (text) => this.#read(text));
		this.#child.stderr?.setEncoding("utf8").on("data", (text) => {
			this.#stderr = `${this.#stderr}${text}`.slice(-maxKeptBytes);
		});
		this.#child.on("error", (error) => {
			const missing = error.code === "ENOENT";
			this.#end(missing ? `${program} is not installed` : `${program}: ${error.message}`);
		});
		const tellEnd = (code, signal) => {
			const how = signal === null ? `exit status ${code}` : `ended by ${signal}`;
			this.#end(`${program}: ${this.stderrTail() || how}`);
		};
		this.#child.on("close", tellEnd);
		this.#child.on("exit", (code, signal) => {
			const end = () => {
				tellEnd(code, signal);
				this.#forget();
			};
			// What is there to be read is read between a timer and an immediate, however late the timer was.
			setTimeout(() => setImmediate(end), drainMs).unref();
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

	/** All of its stderr that is kept, in one line of at most 1000 characters. */
	stderrText() {
		return this.#stderr.replace(/\s+/g, " ").trim().slice(-1000);
	}

	/** The last line of its stderr. */
	stderrTail() {
		return this.#stderr.trim().split("\n").at(-1) ?? "";
	}

	/** What it printed since the last question: of a client that goes on after an error without printing the mark. */
	get answerSoFar() {
		return this.#stdout;
	}

	/**
	 * Sends `text`, which must make the client print `mark` on a line of its own after the answer, and returns the lines
	 * before it. One at a time. After one that failed all others fail: whose answer came would not be known.
	 * @throws HoldError `unavailable` when the client ends first, `temporary` when the mark does not come in time
	 */
	async ask(text, mark, limitMs) {
		if (this.#waiting !== undefined) throw new HoldError(exits.internal, "the client is still busy");
		if (this.#spoiled !== undefined) throw this.#spoiled;
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
		} catch (error) {
			this.#spoiled = error;
			throw error;
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

	/** Ends its stdin, so that it leaves by itself; kills it when it does not. May be called again. */
	async close(limitMs = endLimitMs) {
		if (this.#isEnded) return;
		this.#child.stdin.end();
		const kill = setTimeout(() => this.#child.kill("SIGKILL"), limitMs);
		const giveUp = setTimeout(() => this.#end(`${this.program}: can't be ended`), limitMs + endLimitMs);
		await this.ended;
		clearTimeout(kill);
		clearTimeout(giveUp);
		this.#forget();
	}

	/** So that it keeps this process from its end no longer. */
	#forget() {
		for (const stream of this.#child.stdio) stream?.destroy();
		this.#child.unref();
	}

	#read(text) {
		this.#stdout += text;
		const waiting = this.#waiting;
		if (waiting === undefined) {
			this.#stdout = this.#stdout.slice(-maxKeptBytes);
			return;
		}
		if (this.#stdout.length > maxAnswerBytes) {
			this.#stdout = "";
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
