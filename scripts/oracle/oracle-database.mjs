/** What is known of an Oracle database before it is held, and the state of its backup mode. */
import { realpathSync } from "node:fs";
import { dirname } from "node:path";
import { requireCovered } from "../kit/covered-folders.mjs";
import { exits, HoldError } from "../kit/hold-session.mjs";

const dateFormat = "'YYYY-MM-DD HH24:MI:SS'";

/** All that must be the same before and after. */
export async function readDatabase(sqlplus) {
	const [[startedAt, status, parallel] = []] = await sqlplus.rows(
		[`TO_CHAR(startup_time, ${dateFormat})`, "status", "parallel"],
		"v$instance",
	);
	if (status === "STARTED") throw new HoldError(exits.unavailable, "the instance has no database mounted");
	const [[id, openMode, logMode, role, resetlogs, controlFile] = []] = await sqlplus.rows(
		["dbid", "open_mode", "log_mode", "database_role", "resetlogs_change#", "controlfile_sequence#"],
		"v$database",
	);
	return { startedAt, parallel, id, openMode, logMode, role, resetlogs, controlFile };
}

/** @throws HoldError `config` */
export function requireHoldable({ parallel, openMode, logMode, role }) {
	const refuse = (why) => {
		throw new HoldError(exits.config, why);
	};
	if (parallel === "YES") refuse("a cluster (RAC): its other instances would write on");
	if (role !== "PRIMARY") refuse(`a ${role}, which can't be put in backup mode: hold its primary`);
	if (!isClosed(openMode) && logMode !== "ARCHIVELOG")
		refuse(`open in ${logMode} mode: backup mode needs ARCHIVELOG, or close the database for the snapshot`);
}

export function isClosed(openMode) {
	return openMode === "MOUNTED";
}

/**
 * Every file has to be in the snapshot, but the archived logs: those are looked for by whoever recovers further than the
 * copy itself.
 */
export async function requireDatabaseCovered(sqlplus, input) {
	for (const [what, from] of [
		["a datafile", "v$datafile"],
		["a redo log", "v$logfile"],
		["a control file", "v$controlfile"],
	]) {
		const column = from === "v$logfile" ? "member" : "name";
		const files = (await sqlplus.rows([column], from)).map(([file]) => file);
		const elsewhere = files.find((file) => !file.startsWith("/"));
		if (elsewhere !== undefined)
			throw new HoldError(exits.config, `${what} (${elsewhere}) lies on no file system: ASM is not held`);
		for (const folder of new Set(files.map(folderOf))) requireCovered(input, { [what]: folder });
	}
	const targets = await sqlplus.rows(
		["destination"],
		"v$archive_dest WHERE status = 'VALID' AND target IN ('PRIMARY', 'LOCAL')",
	);
	for (const [target] of targets.filter(([one]) => one?.startsWith("/"))) {
		try {
			requireCovered(input, { "the archived logs": target });
		} catch (error) {
			process.stderr.write(
				`oracle-hold: ${error.message}: the copy can be opened, but not recovered further by itself\n`,
			);
		}
	}
}

/** Of each file: its number, whether it is in backup mode, since which change and time. */
export async function readBackupModes(sqlplus) {
	const rows = await sqlplus.rows(
		["file#", "status", "change#", `TO_CHAR(time, ${dateFormat})`],
		"v$backup ORDER BY file#",
	);
	return rows.map(([file, status, change, time]) => ({ file, isActive: status === "ACTIVE", change, time }));
}

/** Whether a session of that name lives. Of a client that was killed it lives until its statement has ended. */
export async function hasSession(sqlplus, module) {
	return (await sqlplus.rows(["sid"], `v$session WHERE module = '${module}'`)).length > 0;
}

export async function readChangeNumber(sqlplus) {
	const [[change] = []] = await sqlplus.rows(["TO_CHAR(current_scn)"], "v$database");
	return change;
}

function folderOf(file) {
	try {
		return dirname(realpathSync(file));
	} catch (error) {
		throw new HoldError(exits.missing, `${file} can't be looked at: ${error.code}`);
	}
}
