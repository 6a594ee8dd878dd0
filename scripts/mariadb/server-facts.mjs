/** What must be known of a server before it is held: which one it is, what it has rights to, where its files lie. */
import {
	closeSync,
	constants,
	fstatSync,
	openSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	realpathSync,
	statSync,
} from "node:fs";
import { hostname } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { requireCovered } from "../kit/covered-folders.mjs";
import { exits, HoldError } from "../kit/hold-session.mjs";

const folderVariables = [
	"innodb_data_home_dir",
	"innodb_log_group_home_dir",
	"innodb_undo_directory",
	"innodb_doublewrite_dir",
	"aria_log_dir_path",
	"rocksdb_datadir",
	"rocksdb_wal_dir",
];
/** The path of a file without its number. */
const fileVariables = ["log_bin_basename", "log_bin_index", "relay_log_basename", "relay_log_index"];
/** Of an .isl file: it holds one path. */
const maxPathBytes = 4096;
const otherVariables = ["datadir", "hostname", "innodb_data_file_path", "socket", "wsrep_on"];

/** @returns {{kind: "mariadb" | "mysql"}} @throws HoldError `config` */
export async function readVersion(client) {
	const [text] = await client.row("SELECT VERSION()");
	const version = (/^(\d+)\.(\d+)\.(\d+)/.exec(text)?.slice(1) ?? []).map(Number);
	const kind = /mariadb/i.test(text) ? "mariadb" : "mysql";
	const oldest = kind === "mariadb" ? [10, 5, 2] : [8, 0, 22];
	if (version.length === 0 || isOlder(version, oldest)) {
		throw new HoldError(
			exits.config,
			`server version ${text} is not supported: MariaDB from 10.5.2, MySQL from 8.0.22`,
		);
	}
	return { kind };
}

function isOlder(version, than) {
	const at = version.findIndex((part, index) => part !== than[index]);
	return at !== -1 && version[at] < than[at];
}

/** Global variables by name; those that the server does not know are absent. */
export async function readVariables(client) {
	const names = [...folderVariables, ...fileVariables, ...otherVariables].map((name) => `'${name}'`);
	return Object.fromEntries(await client.query(`SHOW GLOBAL VARIABLES WHERE Variable_name IN (${names.join()})`));
}

/**
 * The server must run on this machine: the snapshot is one of this machine. Its process is the one that works in its
 * data folder, which MariaDB and MySQL change to when they start; and the socket that was connected to is that process's.
 *
 * @param {object} variables
 * @param {object} options
 * @param {string} [options.dataFolder]
 * @param {string} [options.socket]
 */
export function requireLocalServer(variables, { dataFolder, socket }) {
	if (dataFolder === undefined && variables.hostname !== hostname()) {
		throw new HoldError(
			exits.config,
			`the server runs on ${variables.hostname}, not on this machine (${hostname()}); if it is in a container of this ` +
				"machine, say with --data-folder where its data lies here",
		);
	}
	const folder = dataFolder ?? variables.datadir;
	const wanted = look(folder);
	if (wanted === undefined) throw new HoldError(exits.missing, `the data folder ${folder} is not there`);
	const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && isServerIn(name, wanted));
	if (pids.length === 0) {
		throw new HoldError(exits.config, `no server process of this machine works in ${folder}; is it another machine's?`);
	}
	if (socket === undefined) return;
	const connected = look(socket);
	const own = resolve(variables.datadir, variables.socket);
	if (pids.some((pid) => isSame(connected, look(`/proc/${pid}/root${own}`) ?? connected))) return;
	throw new HoldError(exits.config, `the server behind ${socket} is not the one that works in ${folder}`);
}

function isServerIn(pid, wanted) {
	try {
		return (
			/^(mariadbd|mysqld)/.test(basename(readlinkSync(`/proc/${pid}/exe`))) && isSame(look(`/proc/${pid}/cwd`), wanted)
		);
	} catch {
		return false;
	}
}

function isSame(one, other) {
	return one?.dev === other?.dev && one?.ino === other?.ino;
}

/** All of the server's folders must be in the snapshot. @throws HoldError `config` with the one that is not */
export async function requireFoldersCovered(client, kind, variables, dataFolder, input) {
	const inner = resolve(variables.datadir);
	const here = (path) => locate(resolve(inner, path), inner, dataFolder);
	const folders = { datadir: dataFolder ?? inner };
	for (const name of folderVariables) {
		if (variables[name]) folders[name] = here(variables[name]);
	}
	for (const name of fileVariables) {
		if (variables[name]) folders[name] = here(dirname(variables[name]));
	}
	for (const file of (variables.innodb_data_file_path ?? "").split(";")) {
		const path = file.split(":")[0];
		if (path.includes("/")) {
			folders[`innodb_data_file_path ${path}`] = here(dirname(resolve(variables.innodb_data_home_dir || inner, path)));
		}
	}
	for (const path of findOutsideFiles(folders.datadir, dataFolder !== undefined)) {
		folders[`table or database ${path}`] = here(path);
	}
	if (kind === "mysql") {
		const files = await client.query(
			"SELECT FILE_NAME FROM information_schema.FILES WHERE FILE_TYPE IN ('TABLESPACE', 'UNDO LOG') " +
				"AND (FILE_NAME LIKE '/%' OR FILE_NAME LIKE '../%')",
		);
		for (const [path] of files) folders[`tablespace ${path}`] = here(dirname(path));
	}
	requireCovered(input, folders);
}

/** A path as the server knows it, as it is reached from here. */
function locate(path, inner, dataFolder) {
	if (dataFolder === undefined) return path;
	if (path === inner) return dataFolder;
	if (path.startsWith(`${inner}/`)) return join(dataFolder, path.slice(inner.length));
	throw new HoldError(
		exits.config,
		`the server keeps ${path} outside of its data folder; where that lies on this machine can't be told`,
	);
}

/** What symbolic links and .isl files (DATA DIRECTORY of InnoDB) of a data folder and its databases point to. */
function findOutsideFiles(dataFolder, isContainer) {
	const found = new Set();
	const folders = [dataFolder];
	for (const folder of folders) {
		for (const entry of readFolder(folder)) {
			const path = join(folder, entry.name);
			if (entry.isSymbolicLink()) {
				const status = look(path);
				if (status === undefined) {
					// It leads to nothing here, and may lead to something in the container.
					if (isContainer) found.add(resolve(folder, readlinkSync(path)));
					continue;
				}
				found.add(realpathSync(path));
				if (status.isDirectory() && folder === dataFolder) folders.push(path);
			} else if (entry.isDirectory()) {
				if (folder === dataFolder) folders.push(path);
			} else if (entry.name.endsWith(".isl")) found.add(dirname(readLinkFile(path)));
		}
	}
	return found;
}

/** What lies there is the server's user's, who is not trusted to have put a file of one path there. */
function readLinkFile(path) {
	const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
	try {
		const status = fstatSync(descriptor);
		const text = status.isFile() && status.size <= maxPathBytes ? readFileSync(descriptor, "utf8").trim() : "";
		if (text.startsWith("/") && !text.includes("\n")) return text;
		throw new HoldError(exits.config, `${path} does not tell where its table lies`);
	} finally {
		closeSync(descriptor);
	}
}

function readFolder(folder) {
	try {
		return readdirSync(folder, { withFileTypes: true });
	} catch (error) {
		throw new HoldError(exits.missing, `${folder} can't be read: ${error.code}`, { cause: error });
	}
}

function look(path) {
	return statSync(path, { throwIfNoEntry: false });
}

/** @throws HoldError `config` when it is not what was said */
export async function requireRole(client, { kind }, role) {
	if (role === "any") return;
	const rows = await client.query(kind === "mariadb" ? "SHOW ALL REPLICAS STATUS" : "SHOW REPLICA STATUS");
	const actual = rows.length > 0 ? "replica" : "primary";
	if (actual !== role) throw new HoldError(exits.config, `the server is a ${actual}, not a ${role} (--role)`);
}

/** A node of a Galera cluster desynchronises and pauses by itself when it is held, which the admin must want. */
export async function requireNoClusterSurprise(client, variables, galera) {
	if (variables.wsrep_on !== "ON") return;
	if (!galera) {
		throw new HoldError(exits.config, "the server is a node of a Galera cluster, which pauses: allow it with --galera");
	}
	const [, state] = await client.row("SHOW GLOBAL STATUS WHERE Variable_name = 'wsrep_local_state_comment'");
	if (state !== "Synced") throw new HoldError(exits.temporary, `the Galera node is ${state}, not Synced`);
}
