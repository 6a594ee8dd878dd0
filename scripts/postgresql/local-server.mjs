/** A server's folders and processes, as this machine shows them. */
import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { exits, HoldError } from "../kit/hold-session.mjs";

/** How often the processes are looked at; /proc answers in microseconds, frozen disks or not. */
const watchEveryMs = 100;

/** Where everything lies that a recovery reads: the data folder, what of it is elsewhere by a link, the tablespaces. */
export function listStorage(dataFolder) {
	try {
		const links = readdirSync(dataFolder).filter((entry) => lstatSync(join(dataFolder, entry)).isSymbolicLink());
		const spaces = readdirSync(join(dataFolder, "pg_tblspc")).filter((entry) => /^\d+$/.test(entry));
		return {
			"the data folder": dataFolder,
			"the write-ahead log": join(dataFolder, "pg_wal"),
			...Object.fromEntries(
				links.filter((entry) => entry !== "pg_wal").map((entry) => [entry, join(dataFolder, entry)]),
			),
			...Object.fromEntries(spaces.map((oid) => [`tablespace ${oid}`, join(dataFolder, "pg_tblspc", oid)])),
		};
	} catch (error) {
		throw unreadable(dataFolder, error);
	}
}

/** `identity` of the folder itself; `systemIdentifier` of the cluster in it, which begins global/pg_control. */
export function readFolderIdentity(dataFolder) {
	try {
		const { dev, ino } = statSync(dataFolder, { bigint: true });
		const control = readFileSync(join(dataFolder, "global/pg_control"));
		const isLittle = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
		const systemIdentifier = String(isLittle ? control.readBigUInt64LE(0) : control.readBigUInt64BE(0));
		return { identity: `${dev}:${ino}`, systemIdentifier };
	} catch (error) {
		throw unreadable(dataFolder, error);
	}
}

function unreadable(dataFolder, error) {
	const hint = error.code === "ENOENT" ? " (of a server in a container: --data-folder)" : "";
	return new HoldError(exits.missing, `data folder ${dataFolder} can't be read: ${error.code ?? error.message}${hint}`);
}

/**
 * The process that the server knows by the number `pid`, and its parent. Each process of a server works in the data
 * folder, whatever mount and process namespaces it lives in; one of another machine does not.
 */
export function findServerProcess(pid, folderIdentity) {
	for (const entry of readdirSync("/proc")) {
		if (!/^\d+$/.test(entry)) continue;
		try {
			const numbers = /^NSpid:\s*(.+)$/m.exec(readFileSync(`/proc/${entry}/status`, "utf8"))?.[1].split(/\s+/);
			if (numbers?.at(-1) !== String(pid)) continue;
			const { dev, ino } = statSync(`/proc/${entry}/cwd`, { bigint: true });
			if (`${dev}:${ino}` !== folderIdentity) continue;
			const backend = readProcess(Number(entry));
			return {
				process: { what: "the server's process of this connection", ...backend },
				parent: { what: "the server", ...readProcess(backend.parentPid) },
			};
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

/** Tells when one of the processes has ended. */
export function watchProcesses(processes) {
	const { promise: lost, resolve } = Promise.withResolvers();
	const findLost = () => {
		const gone = processes.find(hasEnded);
		return gone === undefined ? undefined : `${gone.what} (process ${gone.pid}) ended`;
	};
	const timer = setInterval(() => {
		const reason = findLost();
		if (reason !== undefined) resolve(reason);
	}, watchEveryMs);
	return { lost, findLost, stop: () => clearInterval(timer) };
}

function hasEnded({ pid, startTime }) {
	if (!existsSync(`/proc/${pid}`)) return true;
	try {
		const now = readProcess(pid);
		return now.startTime !== startTime || "ZX".includes(now.state);
	} catch {
		return true;
	}
}
