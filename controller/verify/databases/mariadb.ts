import { randomUUID } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Verdict } from "../found-file-system.ts";
import { runTool } from "../image-tools.ts";
import { runConfined } from "./confined-program.ts";
import type { TreeCopy } from "./copy-tree.ts";
import { copyTree } from "./copy-tree.ts";
import type { DatabaseKind, DatabaseWork, FolderSight } from "./database-kind.ts";
import { findProgram } from "./find-program.ts";
import { isNewer, parsePageSize, parseVersion } from "./mariadb-files.ts";
import { judgeServer } from "./mariadb-judgement.ts";
import { checkScript, serverArguments } from "./mariadb-script.ts";
import { readHead } from "./read-head.ts";
import { withScratchFolder } from "./scratch-folder.ts";
import { parseSteps } from "./step-output.ts";

const evidence = "mariadbd --no-defaults --skip-grant-tables --datadir=COPY; CHECK TABLE of every table; innochecksum";

export const mariadb: DatabaseKind = {
	name: "MariaDB",
	tells: (name, head) => (head ? ["ibdata1", "aria_log_control"].includes(name) : name === "mysql"),
	find: (sight) => (isDataFolder(sight) && sight.heads.has("aria_log_control") ? [sight.path] : []),
	check: async (path, work) => {
		const verdict = await checkDataFolder(path, work);
		return { evidence, ...verdict };
	},
};

/** Of MariaDB or MySQL. */
export function isDataFolder({ heads, folders }: FolderSight): boolean {
	return heads.has("ibdata1") && folders.has("mysql");
}

async function checkDataFolder(path: Buffer, work: DatabaseWork): Promise<Verdict> {
	const head = (name: string) => readHead(Buffer.concat([path, Buffer.from(`/${name}`)]), 4096);
	const written = parseVersion((await head("mariadb_upgrade_info")) ?? (await head("mysql_upgrade_info")));
	const name = written === undefined ? "MariaDB" : `MariaDB ${written}`;
	const unknown = (why: string): Verdict => ({ status: "unknown", detail: `${name}: ${why}` });
	if (!work.startServers) return unknown("no database server is started here");
	const pageBytes = parsePageSize((await head("ibdata1")) ?? Buffer.alloc(0));
	if (pageBytes === undefined) return { status: "fail", detail: `${name}: ibdata1 has no header` };
	const backup = (await head("mariadb_backup_checkpoints")) ?? (await head("xtrabackup_checkpoints"));
	if (backup && !/backup_type = (full-prepared|log-applied)/.test(backup.toString("latin1"))) {
		return unknown("a backup that was not prepared, so no database that could be started");
	}
	const [server, client, sums = ""] = await Promise.all(
		["mariadbd", "mariadb", "innochecksum"].map((program) => findProgram(program, work.programsPrefix)),
	);
	if (!server || !client) return unknown("needs mariadbd and mariadb (packages mariadb-server, mariadb-client)");
	const installed = parseVersion(Buffer.from((await runTool(server, ["--version"], work.signal)).output));
	if (installed !== undefined && written !== undefined && isNewer(written, installed)) {
		return unknown(`newer than the server that is installed here (${installed})`);
	}
	return withScratchFolder(work.scratchDir, async (folder) => {
		const copied = await copyDataFolder(path, join(folder, "data"), work);
		if ("status" in copied) return { ...copied, detail: `${name}: ${copied.detail}` };
		const mark = randomUUID();
		const { limitMs, signal } = work;
		const args = [
			mark,
			client,
			sums,
			server,
			...serverArguments(copied.files, pageBytes, (await stat(join(folder, "data/ibdata1"))).size),
		];
		const limits = { folder, mostFileBytes: copied.bytes + 2 ** 31, limitMs, signal };
		const result = await runConfined(checkScript, args, limits);
		if (result.failure !== undefined) return unknown(result.failure);
		const { status, detail } = judgeServer(parseSteps(result.output, mark));
		return { status, detail: `${name} (checked by ${installed}): ${detail}` };
	});
}

/** Files of InnoDB, MyISAM and Aria, of a database. */
const isTable = /\/.*\.(frm|ibd|MYD|MYI|MAD|MAI)$/;

/** With the databases that are links to other folders. What lies in other places by configuration is not guessed. */
async function copyDataFolder(path: Buffer, to: string, work: DatabaseWork): Promise<TreeCopy | Verdict> {
	const copied = await copyTree(path, to, work.signal);
	if ("status" in copied) return copied;
	for (const { name, target } of copied.links) {
		if (isTable.test(name)) return { status: "unknown", detail: `a table lies outside of its folder (${name})` };
		if (name.includes("/")) continue;
		const followed = await work.follow(target, path);
		if ("elsewhere" in followed) {
			return { status: "unknown", detail: `${name} is not in this file system: ${followed.elsewhere}` };
		}
		const part = await copyTree(followed.path, join(to, name), work.signal);
		if ("status" in part) return { ...part, detail: `${name}: ${part.detail}` };
		copied.bytes += part.bytes;
	}
	if (copied.files.includes("ibdata2")) {
		return { status: "unknown", detail: "its system tablespace has several files, and how is in its configuration" };
	}
	const outside = copied.files.find((name) => name.endsWith(".isl"));
	if (outside !== undefined) return { status: "unknown", detail: `a table lies outside of its folder (${outside})` };
	if (!copied.files.some((name) => /^ib_logfile\d+$/.test(name))) {
		return { status: "unknown", detail: "its redo log is not in its folder" };
	}
	return copied;
}
