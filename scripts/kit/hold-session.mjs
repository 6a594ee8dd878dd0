/**
 * The session protocol of Stillpoint, for scripts that hold something while a snapshot is taken:
 *
 *   1. stdin: one line of JSON with the facts of the job (absent when a person runs the script by hand).
 *   2. The script takes its hold and prints `ready`.
 *   3. stdin: `release snapshot` or `release no-snapshot`. The script proves that it held all along, lets go and
 *      prints `held`, or `lost REASON`.
 *   4. End of stdin, SIGTERM or SIGINT at any time: it lets go at once.
 *
 * Exit status: 0 held, or let go on the end of stdin; 1 the hold was lost; 64 to 78 as in sysexits.h.
 */
import { createInterface } from "node:readline";

export const exits = {
	usage: 64,
	data: 65,
	missing: 66,
	unavailable: 69,
	internal: 70,
	temporary: 75,
	denied: 77,
	config: 78,
};

/** What ends the script with an exit status and one line on stderr. */
export class HoldError extends Error {
	constructor(exitCode, message, options) {
		super(message, options);
		this.exitCode = exitCode;
	}
}

/** How long the first line may take; who runs the script by hand sends none. */
const inputLimitMs = 500;

/**
 * Runs a session to its end and sets the exit status.
 *
 * @param {string} name stands before each message on stderr
 * @param {object} hold
 * @param {(input: object | undefined) => Promise<void>} hold.take holds when it returns; throws HoldError
 * @param {() => Promise<string | undefined>} hold.prove why the hold was not kept all along; undefined: it was
 * @param {() => Promise<void>} hold.letGo undoes what `take` did, in whatever state it was left; called once
 * @param {Promise<string>} [hold.lost] resolves with a reason when the hold is known to be lost before it is released
 * @param {(input: object | undefined) => Promise<void>} [hold.tryOut] dry run: checks, changes nothing; throws HoldError
 * @param {boolean} dryRun
 */
export async function runSession(name, hold, dryRun) {
	const lines = new SessionLines();
	let exitCode = 0;
	const ending = lines.ended.then(() => "ended");
	try {
		const input = await lines.readInput();
		if (dryRun) {
			await hold.tryOut?.(input);
			return;
		}
		const taking = hold.take(input).then(() => "taken");
		// What fails after the end of the session is told by nobody.
		taking.catch(() => undefined);
		if ((await Promise.race([taking, ending])) === "ended") return;
		say("ready");
		const lost = hold.lost?.then((reason) => ({ reason })) ?? new Promise(() => undefined);
		const first = await Promise.race([lines.release, ending, lost]);
		if (first === "ended") return;
		const reason = typeof first === "object" ? first.reason : await hold.prove();
		say(reason === undefined ? "held" : `lost ${oneLine(reason)}`);
		if (reason !== undefined) exitCode = 1;
	} catch (error) {
		process.stderr.write(`${name}: ${error.message}\n`);
		exitCode = error instanceof HoldError ? error.exitCode : exits.internal;
	} finally {
		try {
			await hold.letGo();
		} catch (error) {
			process.stderr.write(`${name}: could not let go: ${error.message}\n`);
			exitCode ||= exits.internal;
		}
		process.exitCode = exitCode;
		lines.close();
	}
}

function say(line) {
	process.stdout.write(`${line}\n`);
}

function oneLine(text) {
	return text.replace(/\s+/g, " ").trim();
}

class SessionLines {
	#input = Promise.withResolvers();
	#release = Promise.withResolvers();
	#ended = Promise.withResolvers();
	#lines = createInterface({ input: process.stdin });
	#onSignal = () => this.#ended.resolve();

	constructor() {
		this.#lines.on("line", (line) => {
			if (line.startsWith("{")) this.#input.resolve(line);
			else if (line === "release" || line.startsWith("release ")) this.#release.resolve("release");
		});
		this.#lines.on("close", () => {
			this.#input.resolve(undefined);
			this.#ended.resolve();
		});
		for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, this.#onSignal);
		// Nobody reads any more: the word that is printed there must not end the script before it let go.
		process.stdout.on("error", this.#onSignal);
		process.stderr.on("error", () => undefined);
	}

	get release() {
		return this.#release.promise;
	}

	get ended() {
		return this.#ended.promise;
	}

	async readInput() {
		const limit = setTimeout(() => this.#input.resolve(undefined), inputLimitMs);
		const line = await this.#input.promise;
		clearTimeout(limit);
		if (line === undefined) return undefined;
		try {
			return JSON.parse(line);
		} catch {
			throw new HoldError(exits.usage, "the first line of stdin is no JSON");
		}
	}

	close() {
		for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.off(signal, this.#onSignal);
		this.#lines.close();
		process.stdin.destroy();
	}
}
