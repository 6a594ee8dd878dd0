/**
 * What says that backup mode was begun by us: it outlives the connection, the script and a job that was killed. A file of
 * root's, in a folder that is gone when the machine starts anew.
 */
import { lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { exits, HoldError } from "../kit/hold-session.mjs";

export class BackupMark {
	#path;
	#folder;

	constructor(folder, sid) {
		this.#folder = folder;
		this.#path = join(folder, `oracle-${sid}.json`);
	}

	/** @returns {object | undefined} */
	read() {
		let text;
		try {
			this.#requireOwn();
			text = readFileSync(this.#path, "utf8");
		} catch (error) {
			if (error.code === "ENOENT") return undefined;
			throw error instanceof HoldError ? error : new HoldError(exits.internal, `${this.#path}: ${error.message}`);
		}
		try {
			return JSON.parse(text);
		} catch {
			throw new HoldError(exits.internal, `${this.#path} can't be read: look at v$backup, then remove it`);
		}
	}

	/** Before backup mode is begun. */
	write(content) {
		mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
		this.#requireOwn();
		writeFileSync(`${this.#path}.new`, JSON.stringify(content), { mode: 0o600 });
		renameSync(`${this.#path}.new`, this.#path);
	}

	/** After it was ended. */
	remove() {
		rmSync(this.#path, { force: true });
	}

	#requireOwn() {
		const stats = lstatSync(this.#folder);
		if (!stats.isDirectory() || stats.uid !== process.geteuid() || (stats.mode & 0o022) !== 0)
			throw new HoldError(exits.config, `${this.#folder} is not a folder that only we can change`);
	}
}
