/**
 * The session protocol of Stillpoint, for scripts that hold something while a snapshot is taken:
 *
 *   1. stdin: one line of JSON with the facts of the job (absent when a person runs the script by hand).
 *   2. The script takes its hold and prints `ready`.
 *   3. stdin: `release OUTCOME` (`snapshot`, `no-snapshot`, `unknown`). The script proves that it held all along, lets go and
 *      prints `held`, or `lost REASON`.
 *   4. End of stdin, SIGTERM or SIGINT at any time: it lets go at once.
 *
 * Exit status: 0 held, or let go on the end of stdin; 1 the hold was lost; 64 to 78 as in sysexits.h.
 */
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

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

/** How long the first line may take when a person runs the script by hand, who sends none. */
const inputLimitMs = 500;
/** For a `take` that is told to stop: afterwards what it took meanwhile is let go, too. */
const stopLimitMs = 2_000;

/**
 * Runs a session to its end and sets the exit status.
 *
 * @param {string} name stands before each message on stderr
 * @param {object} hold
 * @param {(input: object | undefined, stop: AbortSignal) => Promise<void>} hold.take holds when it returns; throws
 *   HoldError. When `stop` aborts, the session is over, and `letGo` runs beside it.
 * @param {() => Promise<string | undefined>} hold.prove why the hold was not kept all along; undefined: it was
 * @param {() => Promise<void>} hold.letGo undoes what `take` did, in whatever state it was left. Called once; once more
 *   when `take` had not yet come to its end then.
 * @param {Promise<string>} [hold.lost] resolves with a reason when the hold is known to be lost before it is released;
 *   looked at after `take`
 * @param {(input: object | undefined, stop: AbortSignal) => Promise<void>} [hold.tryOut] dry run: checks, changes
 *   nothing; throws HoldError
 * @param {boolean} dryRun
 */
export async function runSession(name, hold, dryRun) {
	const lines = new SessionLines();
	const stop = new AbortController();
	const ending = lines.ended.then(() => "ended");
	let exitCode = 0;
	const taken = { isOver: true, promise: Promise.resolve() };
	try {
		const input = await lines.readInput();
		if (lines.isSignalled) return;
		const work = dryRun ? hold.tryOut : hold.take;
		const taking = Promise.resolve(work?.call(hold, input, stop.signal)).then(() => "taken");
		taken.isOver = false;
		// What fails after the end of the session is told by nobody.
		taken.promise = taking.catch(() => undefined).then(() => undefined);
		// The stdin of a dry run ends behind its first line.
		const first = await Promise.race([taking.finally(() => (taken.isOver = true)), dryRun ? lines.signalled : ending]);
		if (first !== "taken" || dryRun) return;
		say("ready");
		const lost = hold.lost?.then((reason) => ({ reason })) ?? new Promise(() => undefined);
		const next = await Promise.race([lines.release, ending, lost]);
		if (next === "ended") return;
		const reason = typeof next === "object" ? next.reason : await findFault(hold);
		say(reason === undefined ? "held" : `lost ${oneLine(reason)}`);
		if (reason !== undefined) exitCode = 1;
	} catch (error) {
		exitCode = tell(name, error);
	} finally {
		stop.abort();
		const letGoStatus = await letGo(name, hold, taken);
		process.exitCode = exitCode || letGoStatus;
		lines.close();
	}
}

/** A proof that could not be made is none. */
async function findFault(hold) {
	try {
		return await hold.prove();
	} catch (error) {
		return error.message || "it could not be proved";
	}
}

async function letGo(name, hold, taken) {
	try {
		const wasOver = taken.isOver;
		await hold.letGo();
		if (wasOver) return 0;
		await Promise.race([taken.promise, sleep(stopLimitMs, undefined, { ref: false })]);
		await hold.letGo();
		return 0;
	} catch (error) {
		process.stderr.write(`${name}: could not let go: ${oneLine(error.message)}\n`);
		return exits.internal;
	}
}

function tell(name, error) {
	process.stderr.write(`${name}: ${oneLine(error.message)}\n`);
	return error instanceof HoldError ? error.exitCode : exits.internal;
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
	#signalled = Promise.withResolvers();
	#lines = createInterface({ input: process.stdin });
	#isSignalled = false;
	#onSignal = () => {
		this.#isSignalled = true;
		this.#input.resolve(undefined);
		this.#signalled.resolve("signalled");
		this.#ended.resolve();
	};

	constructor() {
		this.#lines.on("line", (line) => {
			if (line.startsWith("{")) this.#input.resolve(line);
			else if (line === "release" || line.startsWith("release ")) this.#release.resolve("release");
		});
		this.#lines.on("close", () => {
			this.#input.resolve(undefined);
			this.#ended.resolve();
		});
		process.stdin.on("error", () => this.#lines.close());
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

	get signalled() {
		return this.#signalled.promise;
	}

	get isSignalled() {
		return this.#isSignalled;
	}

	/** Stillpoint always sends it: however late it comes, a hold must not be taken without having looked at it. */
	async readInput() {
		const isJob = process.env.STILLPOINT_PHASE !== undefined;
		const limit = isJob ? undefined : setTimeout(() => this.#input.resolve(undefined), inputLimitMs);
		const line = await this.#input.promise;
		clearTimeout(limit);
		if (line === undefined) {
			if (isJob && !this.#isSignalled) throw new HoldError(exits.usage, "stdin told nothing of the job");
			return undefined;
		}
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
