/** A server's folders and processes, as this machine shows them. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { listLinks } from "../kit/covered-folders.mjs";
import { exits, HoldError } from "../kit/hold-session.mjs";
import { findProcessIn, readIdentity, readProcess, requireSameView } from "../kit/local-process.mjs";

/** How often the processes are looked at; /proc answers in microseconds, frozen disks or not. */
const watchEveryMs = 100;

/**
 * Where everything lies that a recovery reads: the data folder, what of it is elsewhere by a link (whole databases, too),
 * the tablespaces.
 */
export function listStorage(dataFolder) {
	try {
		const { pg_wal: _named, ...links } = listLinks(dataFolder, ["", "base"]);
		const spaces = readdirSync(join(dataFolder, "pg_tblspc")).filter((entry) => /^\d+$/.test(entry));
		return {
			"the data folder": dataFolder,
			"the write-ahead log": join(dataFolder, "pg_wal"),
			...links,
			...Object.fromEntries(spaces.map((oid) => [`tablespace ${oid}`, join(dataFolder, "pg_tblspc", oid)])),
		};
	} catch (error) {
		throw unreadable(dataFolder, error);
	}
}

/** `identity` of the folder itself; `systemIdentifier` of the cluster in it, which begins global/pg_control. */
export function readFolderIdentity(dataFolder) {
	try {
		const identity = readIdentity(dataFolder);
		const control = readFileSync(join(dataFolder, "global/pg_control"));
		const isLittle = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
		const systemIdentifier = String(isLittle ? control.readBigUInt64LE(0) : control.readBigUInt64BE(0));
		return { identity, systemIdentifier };
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
 * folder.
 *
 * @throws HoldError `config` when it finds its storage elsewhere than we do
 */
export function findServerProcess(pid, dataFolder, { identity }, storage) {
	const backend = findProcessIn(identity, pid);
	if (backend === undefined) return undefined;
	requireSameView(backend.pid, dataFolder, storage);
	return {
		process: { what: "the server's process of this connection", ...backend },
		parent: { what: "the server", ...readProcess(backend.parentPid) },
	};
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
