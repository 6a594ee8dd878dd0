/** What is known of a Redis server before it is held: whether it can be, and where its data lies. */
import { statfsSync } from "node:fs";
import { join } from "node:path";
import { requireCovered } from "../kit/covered-folders.mjs";
import { exits, HoldError } from "../kit/hold-session.mjs";
import { findProcessIn, readIdentity, requireSameView } from "../kit/local-process.mjs";

/** The first with CLIENT PAUSE ... WRITE. */
const oldest = [6, 2];

/**
 * @returns {Promise<{ keeps: "aof" | "rdb", folder: string, runId: string, role: string, isCluster: boolean }>}
 * @throws HoldError when it can't be held
 */
export async function readServer(client, { role: wantedRole, dataFolder }) {
	const info = await client.info();
	const version = (info.get("redis_version") ?? "").split(".").map(Number);
	if (!(version[0] > oldest[0] || (version[0] === oldest[0] && version[1] >= oldest[1])))
		throw new HoldError(exits.config, `Redis ${version.join(".")}: needs 6.2 or newer, which can pause writes only`);
	if (info.get("loading") !== "0") throw new HoldError(exits.temporary, "the server is loading its data");
	const role = info.get("role") === "master" ? "primary" : "replica";
	if (wantedRole !== "any" && role !== wantedRole)
		throw new HoldError(exits.config, `the server is a ${role}, and --role is ${wantedRole}`);
	const saves = await client.config("save");
	const isAof = info.get("aof_enabled") === "1";
	if (!isAof && (saves === undefined || saves === ""))
		throw new HoldError(
			exits.config,
			"a cache: neither appendonly nor save is set, so a copy of its disk holds nothing",
		);
	const folder = dataFolder ?? (await client.config("dir"));
	if (folder === undefined) throw new HoldError(exits.config, "CONFIG GET dir is not answered: name --data-folder");
	const isCluster = info.get("cluster_enabled") === "1";
	const pid = Number(info.get("process_id"));
	return { keeps: isAof ? "aof" : "rdb", folder, runId: info.get("run_id"), pid, role, isCluster };
}

/** The append-only files may lie elsewhere by a symbolic link; an RDB is always made new in the folder itself. */
export async function requireServerCovered(client, { keeps, folder, pid }, input) {
	requireCovered(input, { "its data folder": folder });
	// It works in its data folder, and names it: another machine's may have the same name.
	const server = findProcessIn(readFolderIdentity(folder), pid);
	if (server === undefined)
		throw new HoldError(
			exits.config,
			`the server that answers is not this machine's: its process ${pid} does not work in ${folder} here`,
		);
	if (keeps === "rdb") return;
	// A folder since 7.0, before that one file.
	const name = (await client.config("appenddirname")) ?? (await client.config("appendfilename"));
	if (name === undefined) return;
	const files = { "its append-only file": join(folder, name) };
	requireCovered(input, files);
	requireSameView(server.pid, folder, files);
}

function readFolderIdentity(folder) {
	try {
		return readIdentity(folder);
	} catch (error) {
		throw unreadable(folder, error);
	}
}

function unreadable(folder, error) {
	return new HoldError(exits.missing, `its data folder (${folder}) can't be looked at: ${error.code}`);
}

/**
 * A save that fails would be worse than none: from then on the server itself refuses writes
 * (stop-writes-on-bgsave-error). The saved form is hardly ever larger than the data in memory.
 */
export async function requireSpaceToSave(client, { folder }) {
	const neededBytes = Number((await client.info()).get("used_memory_dataset") ?? 0);
	let freeBytes;
	try {
		const { bavail, bsize } = statfsSync(folder);
		freeBytes = bavail * bsize;
	} catch (error) {
		throw unreadable(folder, error);
	}
	if (freeBytes >= neededBytes) return;
	const [needed, free] = [neededBytes, freeBytes].map((bytes) => `${Math.ceil(bytes / 1024 / 1024)} MiB`);
	throw new HoldError(exits.temporary, `${folder} has ${free} free, a save may need ${needed}`);
}
