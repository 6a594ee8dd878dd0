#!/usr/bin/env node
/**
 * Puts an Oracle database in backup mode while a snapshot is taken, and proves it: a session script of Stillpoint.
 * Written by Oracle's documentation, tried with no server; see README.md.
 *
 * 1. Looks at its state, and whether its files are in the snapshot.
 * 2. Open: ALTER DATABASE BEGIN BACKUP. Closed (mounted): nothing.
 * 3. On `release` proves that each file is in backup mode since then (or that it stayed closed), ends it.
 *
 * Backup mode outlives its connection. So with `--end`, as the `post` beside the session, it ends what a killed session
 * left; and only that.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { absolutePath, readCommandLine, refusePositionals, serverOptions, wholeNumber } from "../kit/command-line.mjs";
import { exits, HoldError, runSession } from "../kit/hold-session.mjs";
import { BackupMark } from "./backup-mark.mjs";
import {
	hasSession,
	isClosed,
	readBackupModes,
	readChangeNumber,
	readDatabase,
	requireDatabaseCovered,
	requireHoldable,
} from "./oracle-database.mjs";
import { findInstance } from "./oratab.mjs";
import { Sqlplus } from "./sqlplus.mjs";

const usage = `usage: oracle-hold.mjs [--sid NAME] [--oracle-home DIR] [--oratab FILE] [--client-folder DIR] [--os-user NAME]
  [--privilege sysbackup|sysdba] [--lock-timeout-ms N] [--checkpoint-limit-ms N] [--mark-folder DIR] [--end] [--dry-run]`;
const holdModule = "stillpoint-hold";
const endModule = "stillpoint-end";
const pollMs = 200;
const { credentials: _none, ...ownOptions } = serverOptions;

const options = readCommandLine(
	"oracle-hold",
	usage,
	process.argv.slice(2),
	{
		...ownOptions,
		"os-user": { type: "string", default: "oracle" },
		sid: { type: "string" },
		"oracle-home": { type: "string" },
		oratab: { type: "string" },
		privilege: { type: "string", default: "sysbackup" },
		"checkpoint-limit-ms": { type: "string", default: "60000" },
		"mark-folder": { type: "string", default: "/run/stillpoint-oracle" },
		end: { type: "boolean", default: false },
	},
	(values, positionals) => {
		refusePositionals(positionals);
		if (values.sid !== undefined && !/^[A-Za-z]\w{0,29}$/.test(values.sid))
			throw new HoldError(exits.usage, "--sid: not the name of an instance");
		if (!["sysbackup", "sysdba"].includes(values.privilege))
			throw new HoldError(exits.usage, "--privilege is sysbackup or sysdba");
		return {
			sid: values.sid,
			oracleHome: absolutePath("--oracle-home", values["oracle-home"]),
			oratab: absolutePath("--oratab", values.oratab),
			clientFolder: absolutePath("--client-folder", values["client-folder"]),
			osUser: values["os-user"],
			privilege: values.privilege.toUpperCase(),
			lockTimeoutMs: wholeNumber("--lock-timeout-ms", values["lock-timeout-ms"], 100, 600_000),
			checkpointLimitMs: wholeNumber("--checkpoint-limit-ms", values["checkpoint-limit-ms"], 100, 1_800_000),
			markFolder: absolutePath("--mark-folder", values["mark-folder"]),
			end: values.end,
		};
	},
);
if (options?.end) await end(options);
else if (options !== undefined) await runSession("oracle-hold", makeHold(options), options.dryRun);

function makeHold(limits) {
	const lost = Promise.withResolvers();
	let sqlplus;
	let before;
	let modes = [];
	let mark;

	return {
		lost: lost.promise,

		async take(input, stop) {
			const instance = await open(input);
			stop.throwIfAborted();
			sqlplus.ended.then((reason) => lost.resolve(`its client died: ${reason}`));
			if (isClosed(before.openMode)) return;
			await sqlplus.run("ALTER SYSTEM ARCHIVE LOG CURRENT;", limits.checkpointLimitMs);
			stop.throwIfAborted();
			mark = new BackupMark(limits.markFolder, instance.sid);
			mark.write({ jobId: input?.jobId, startedAt: before.startedAt, change: await readChangeNumber(sqlplus) });
			await sqlplus.run("ALTER DATABASE BEGIN BACKUP;", limits.checkpointLimitMs);
			modes = await readBackupModes(sqlplus);
			if (!modes.some(({ isActive }) => isActive))
				throw new HoldError(exits.unavailable, "no file is in backup mode after BEGIN BACKUP");
			const others = modes.filter(({ isActive }) => !isActive).map(({ file }) => file);
			if (others.length > 0)
				process.stderr.write(`oracle-hold: read-only or offline, not in backup mode: files ${others.join(", ")}\n`);
		},

		async prove() {
			const now = await readDatabase(sqlplus);
			// While it is open the control file changes all the time.
			const keys = Object.keys(before).filter((key) => key !== "controlFile" || isClosed(before.openMode));
			for (const key of keys) if (now[key] !== before[key]) return `${key} was ${before[key]}, and is ${now[key]}`;
			if (isClosed(before.openMode)) return undefined;
			if (JSON.stringify(await readBackupModes(sqlplus)) !== JSON.stringify(modes))
				return "a file left backup mode, or entered it anew";
			await endBackup(sqlplus, mark, limits);
			mark = undefined;
			return undefined;
		},

		async letGo() {
			await sqlplus?.close();
			if (mark !== undefined) await endOwn(limits, mark);
			mark = undefined;
		},

		async tryOut(input) {
			await open(input);
		},
	};

	async function open(input) {
		const instance = findInstance(limits);
		const left = new BackupMark(limits.markFolder, instance.sid).read();
		if (left !== undefined)
			throw new HoldError(exits.temporary, "an earlier job left it in backup mode: run oracle-hold.mjs --end");
		sqlplus = new Sqlplus({ ...limits, ...instance });
		await sqlplus.connect(limits.privilege, holdModule);
		before = await readDatabase(sqlplus);
		requireHoldable(before);
		await requireDatabaseCovered(sqlplus, input);
		const active = (await readBackupModes(sqlplus)).filter(({ isActive }) => isActive);
		if (active.length > 0)
			throw new HoldError(
				exits.temporary,
				`somebody else has files in backup mode: ${active.map(({ file }) => file).join(", ")}`,
			);
		return instance;
	}
}

/** What a session that was killed left. Nothing to do is success. */
async function end(limits) {
	try {
		const mark = new BackupMark(limits.markFolder, findInstance(limits).sid);
		if (mark.read() === undefined || limits.dryRun) return;
		await endOwn(limits, mark);
	} catch (error) {
		process.stderr.write(`oracle-hold: ${error.message}\n`);
		process.exitCode = error instanceof HoldError ? error.exitCode : exits.internal;
	}
}

/** By a connection of its own: that of the session may be dead, or hang. */
async function endOwn(limits, mark) {
	const left = mark.read();
	if (left === undefined) return;
	const sqlplus = new Sqlplus({ ...limits, ...findInstance(limits) });
	try {
		await sqlplus.connect(limits.privilege, endModule);
		const { startedAt } = await readDatabase(sqlplus);
		await untilSessionEnded(sqlplus, limits.checkpointLimitMs);
		const active = (await readBackupModes(sqlplus)).filter(({ isActive }) => isActive);
		// An instance that was started anew had to be taken out of backup mode before it could be opened.
		const isOurs = active.every(({ change }) => BigInt(change) >= BigInt(left.change));
		if (startedAt === left.startedAt && active.length > 0 && isOurs) await endBackup(sqlplus, mark, limits);
		else mark.remove();
	} finally {
		await sqlplus.close();
	}
}

/** A BEGIN BACKUP whose client is gone may still be on its way: ended before, it would be in force afterwards. */
async function untilSessionEnded(sqlplus, limitMs) {
	const endMs = performance.now() + limitMs;
	while (await hasSession(sqlplus, holdModule)) {
		if (performance.now() > endMs)
			throw new HoldError(exits.temporary, "its session does not end; run oracle-hold.mjs --end later");
		await sleep(pollMs);
	}
}

async function endBackup(sqlplus, mark, { checkpointLimitMs, lockTimeoutMs }) {
	await sqlplus.run("ALTER DATABASE END BACKUP;", checkpointLimitMs);
	const active = (await readBackupModes(sqlplus)).filter(({ isActive }) => isActive);
	if (active.length > 0) throw new HoldError(exits.unavailable, "files are in backup mode after END BACKUP");
	mark.remove();
	try {
		// So that the archived logs reach beyond the end of backup mode. No part of the copy.
		await sqlplus.run("ALTER SYSTEM ARCHIVE LOG CURRENT;", lockTimeoutMs);
	} catch (error) {
		process.stderr.write(`oracle-hold: the log was not archived: ${error.message}\n`);
	}
}
