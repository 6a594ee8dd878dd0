import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { StillpointError } from "../../../contracts/errors.ts";

/** Whom a script runs as. */
export type ScriptUser = {
	readonly name: string;
	readonly uid: number;
	readonly gid: number;
	/** All of them, the primary one too. */
	readonly groups: readonly number[];
	readonly home: string;
	/** Path of setpriv, which makes a process that user's. */
	readonly setpriv: string;
};

const limitMs = 10_000;
const searchPath = "/usr/sbin:/usr/bin:/sbin:/bin";
const setprivPaths = ["/usr/bin/setpriv", "/bin/setpriv"];

/**
 * By the system's own tools, because a user may stand in a directory service as well as in /etc/passwd.
 * @throws `script-config-invalid` when there is no such user; `tool-missing`
 */
export async function findScriptUser(name: string): Promise<ScriptUser> {
	const setpriv = setprivPaths.find((path) => existsSync(path));
	if (setpriv === undefined) throw new StillpointError("tool-missing", "runAs needs setpriv (package util-linux)");
	const line = await read("getent", ["passwd", name], name);
	const [, , uid, gid, , home] = line.split(":");
	const groups = (await read("id", ["-G", name], name)).split(" ").map(Number);
	const numbers = [Number(uid), Number(gid), ...groups];
	if (!uid || !gid || !numbers.every(Number.isInteger)) throw unknown(name, `not understood: ${line}`);
	return { name, uid: Number(uid), gid: Number(gid), groups, home: home || "/", setpriv };
}

/**
 * setpriv of util-linux: it sets user, group and all groups before it becomes the script, with the same process id. Node
 * can set user and group of a child, but leaves it without the user's other groups. Privileges that the program itself
 * has been given (sudo) stay possible.
 */
export function asUser(user: ScriptUser, command: readonly string[]): [string, ...string[]] {
	const ids = ["--reuid", user.uid, "--regid", user.gid, "--groups", user.groups.join(","), "--inh-caps=-all"];
	return [user.setpriv, ...ids.map(String), "--", ...command];
}

async function read(program: string, args: readonly string[], user: string): Promise<string> {
	const options = { env: { PATH: searchPath, LC_ALL: "C" }, timeout: limitMs, cwd: "/" };
	const { stdout } = await promisify(execFile)(program, args, options).catch((cause: NodeJS.ErrnoException) => {
		if (cause.code === "ENOENT") throw new StillpointError("tool-missing", `runAs needs ${program}`, { cause });
		throw unknown(user, cause.message.trim().replaceAll(/\s+/g, " "), cause);
	});
	return stdout.trim();
}

function unknown(name: string, why: string, cause?: unknown): StillpointError {
	return new StillpointError("script-config-invalid", `runAs: there is no user ${name} on this machine (${why})`, {
		cause,
	});
}
