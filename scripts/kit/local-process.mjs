/** Whether the server that answers runs on this machine, on the folders that this machine sees. */
import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { exits, HoldError } from "./hold-session.mjs";

/** @returns {string} by which a folder is known, whatever path leads to it */
export function readIdentity(path) {
	const { dev, ino } = statSync(path, { bigint: true });
	return `${dev}:${ino}`;
}

/**
 * The process that knows itself by the number `pid`, in whatever process and mount namespaces it lives, and works in that
 * folder; one of another machine does not.
 *
 * @throws HoldError `denied` when we may not look
 */
export function findProcessIn(folderIdentity, pid) {
	for (const entry of readdirSync("/proc")) {
		if (!/^\d+$/.test(entry)) continue;
		try {
			const numbers = /^NSpid:\s*(.+)$/m.exec(readFileSync(`/proc/${entry}/status`, "utf8"))?.[1].split(/\s+/);
			if (numbers?.at(-1) !== String(pid)) continue;
			if (readIdentity(`/proc/${entry}/cwd`) === folderIdentity) return readProcess(Number(entry));
		} catch (error) {
			if (error.code === "EACCES")
				throw new HoldError(exits.denied, "the server's processes can't be looked at: run as root or as its user");
			// Ended meanwhile.
		}
	}
	return undefined;
}

/** proc(5): the name in parentheses may hold anything; state is field 3, the parent 4, the start time 22. */
export function readProcess(pid) {
	const text = readFileSync(`/proc/${pid}/stat`, "utf8");
	const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
	return { pid, state: fields[0], parentPid: Number(fields[1]), startTime: fields[19] };
}

/**
 * A server in a container may find something else at a path below its folder than this machine does: a volume that is
 * mounted there, or what a symbolic link leads to.
 *
 * @param {number} pid of a process that works in `folder`
 * @param {string} folder
 * @param {Record<string, string>} paths what lies there, and the path below `folder`
 * @throws HoldError `config`
 */
export function requireSameView(pid, folder, paths) {
	for (const [what, path] of Object.entries(paths)) {
		try {
			if (readIdentity(path) === readIdentityFor(pid, relative(folder, path))) continue;
		} catch (error) {
			throw new HoldError(exits.missing, `${what} (${path}) can't be looked at: ${error.code ?? error.message}`);
		}
		throw new HoldError(
			exits.config,
			`${what} (${path}) is another folder for the server than for this machine: a volume of its container?`,
		);
	}
}

/** Through /proc, which leads into the mount namespace of the process, but not what is absolute in a link. */
function readIdentityFor(pid, entry) {
	const path = join(`/proc/${pid}/cwd`, entry);
	const target = lstatSync(path).isSymbolicLink() ? readlinkSync(path) : "";
	return readIdentity(target.startsWith("/") ? `/proc/${pid}/root${target}` : path);
}
