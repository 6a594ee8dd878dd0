/**
 * MongoDB by its own shell, a process for each question: nothing is held by a connection. The connection string, which
 * has the password in it, goes by the environment, as the shell's manual proposes for scripts.
 */
import { ClientProcess } from "../kit/client-process.mjs";
import { commandAs } from "../kit/command-as.mjs";
import { clientProgram } from "../kit/command-line.mjs";
import { readCredentials } from "../kit/credentials-file.mjs";
import { exits, HoldError } from "../kit/hold-session.mjs";

/** For the shell itself: it is a large program, and a busy machine starts it slowly. */
const startLimitMs = 15_000;

/** In the words of the shell. Long numbers of BSON become plain ones. */
const tellState = `
	const status = admin.runCommand({ serverStatus: 1 });
	const hello = admin.runCommand({ hello: 1 });
	const options = admin.runCommand({ getCmdLineOpts: 1 });
	for (const answer of [status, hello, options]) if (answer.ok !== 1) throw new Error(answer.errmsg);
	const storage = (options.parsed || {}).storage || {};
	tell({
		version: String(status.version),
		process: String(status.process),
		pid: Number(status.pid),
		uptimeMs: Number(status.uptimeMillis),
		engine: (status.storageEngine || {}).name,
		persistent: (status.storageEngine || {}).persistent,
		journal: (storage.journal || {}).enabled,
		dataFolder: storage.dbPath,
		clusterRole: ((options.parsed || {}).sharding || {}).clusterRole,
		setName: hello.setName,
		isRouter: hello.msg === "isdbgrid",
		isArbiter: hello.arbiterOnly === true,
		isPrimary: hello.isWritablePrimary === true,
		isSecondary: hello.secondary === true,
	});`;
/** A checkpoint; no lock. */
const flush = `
	const flushed = admin.runCommand({ fsync: 1 });
	if (flushed.ok !== 1) throw new Error(flushed.errmsg);`;
const questions = { state: tellState, flushThenState: `${flush}${tellState}` };

export class Mongosh {
	#command;
	#uri;
	#secrets;
	#running;

	constructor({ credentials, clientFolder, osUser, socket, host, port, lockTimeoutMs }) {
		const {
			user,
			password,
			authSource = "admin",
		} = credentials === undefined ? {} : readCredentials(credentials, ["user", "password", "authSource"]);
		if (credentials !== undefined && (user === undefined || password === undefined))
			throw new HoldError(exits.config, `credentials file ${credentials} must name user and password`);
		const login = user === undefined ? "" : `${encodeURIComponent(user)}:${encodeURIComponent(password)}@`;
		const place = socket === undefined ? `${host}:${port}` : encodeURIComponent(socket);
		const settings = [
			"directConnection=true",
			`serverSelectionTimeoutMS=${lockTimeoutMs}`,
			...(user === undefined ? [] : [`authSource=${encodeURIComponent(authSource)}`]),
		];
		this.#uri = `mongodb://${login}${place}/admin?${settings.join("&")}`;
		this.#secrets = password === undefined ? [] : [this.#uri, encodeURIComponent(password), password];
		this.#command = (code) =>
			commandAs(osUser, clientProgram(clientFolder, "mongosh"), ["--nodb", "--norc", "--quiet", "--eval", code]);
	}

	/** @param {"state" | "flushThenState"} question. @throws HoldError `denied`, `unavailable`, or `temporary` when it takes too long */
	async ask(question, limitMs) {
		const mark = `stillpoint-${process.pid}-end`;
		// What is thrown is told in the answer: where the shell itself would print it is its own affair.
		const code = `
			const tell = (answer) => { print(JSON.stringify(answer)); print(${JSON.stringify(mark)}); };
			try {
				const admin = connect(process.env.STILLPOINT_MONGODB_URI).getSiblingDB("admin");
				${questions[question]}
			} catch (error) {
				tell({ error: String((error && error.message) || error) });
			}`;
		this.#running = new ClientProcess(...this.#command(code), { env: { STILLPOINT_MONGODB_URI: this.#uri } });
		try {
			const lines = await this.#running.ask("", mark, startLimitMs + limitMs);
			const answer = JSON.parse(lines.findLast((line) => line.startsWith("{")) ?? "{}");
			if (answer.error !== undefined) throw new HoldError(exits.unavailable, answer.error);
			return answer;
		} catch (error) {
			throw this.#explain(error);
		} finally {
			await this.close();
		}
	}

	/** Ends what is being asked. */
	async close() {
		await this.#running?.close(0);
	}

	#explain(error) {
		let message = error.message;
		for (const secret of this.#secrets) message = message.replaceAll(secret, "***");
		if (/authentication failed|requires authentication|not authorized|unauthorized/i.test(message))
			return new HoldError(exits.denied, message);
		return new HoldError(error.exitCode ?? exits.unavailable, message);
	}
}
