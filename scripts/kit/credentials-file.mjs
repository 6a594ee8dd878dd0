/**
 * A file with a password in it: the own file of whom the script runs as (root, unless `runAs` says otherwise), and
 * closed to everybody else. What is in it is never printed.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { exits, HoldError } from "./hold-session.mjs";

const maxBytes = 64 * 1024;

/** @returns {string} its text. @throws HoldError `config`, which says what to do about it */
export function readCredentialsFile(path) {
	using file = openCredentialsFile(path);
	return readFileSync(file.descriptor, "utf8");
}

/**
 * For a client that reads the file itself: at the returned `path` it finds the very file that was looked at, as long as
 * this process lives and keeps it open. For a client that runs as the same user.
 *
 * @returns {{descriptor: number, path: string} & Disposable} @throws HoldError `config`
 */
export function openCredentialsFile(path) {
	let descriptor;
	try {
		descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
		const { uid, mode, size } = fstatSync(descriptor);
		if ((mode & constants.S_IFMT) !== constants.S_IFREG) refuse(path, "is no regular file");
		const own = process.geteuid();
		if (uid !== own) refuse(path, `belongs to uid ${uid}: chown ${own === 0 ? "root" : own} ${path}`);
		if ((mode & 0o077) !== 0) refuse(path, `is open to others (mode ${(mode & 0o777).toString(8)}): chmod 600 ${path}`);
		if (size > maxBytes) refuse(path, `is larger than ${maxBytes} bytes`);
	} catch (error) {
		if (descriptor !== undefined) closeSync(descriptor);
		if (error instanceof HoldError) throw error;
		const why =
			error.code === "ENOENT" ? "does not exist" : error.code === "ELOOP" ? "is a symbolic link" : error.message;
		throw new HoldError(exits.config, `credentials file ${path} ${why}`, { cause: error });
	}
	return {
		descriptor,
		path: `/proc/${process.pid}/fd/${descriptor}`,
		[Symbol.dispose]: () => closeSync(descriptor),
	};
}

/**
 * Of a file with lines `KEY = VALUE`, the value being the rest of the line as it is; `#` begins a line of comment.
 * @param {string[]} keys the known ones
 * @returns {Record<string, string>}
 */
export function readCredentials(path, keys) {
	const lines = readCredentialsFile(path).split("\n");
	const entries = [];
	for (const line of lines.map((one) => one.trim()).filter((one) => one !== "" && !one.startsWith("#"))) {
		const [, key, value] = /^(\w+)\s*=\s*(.+)$/.exec(line) ?? [];
		if (!keys.includes(key))
			refuse(path, `has a line that is none of ${keys.map((one) => `"${one} = ..."`).join(", ")}`);
		entries.push([key, value]);
	}
	return Object.fromEntries(entries);
}

function refuse(path, why) {
	throw new HoldError(exits.config, `credentials file ${path} ${why}`);
}
