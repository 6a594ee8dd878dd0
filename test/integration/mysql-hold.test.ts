/**
 * With a stand-in for MySQL's client that answers as MySQL's manual documents: no real server of MySQL 8 was had. What the
 * real one does is not proved here, only what the script makes of such answers.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
	copyFileSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readFileSync,
	renameSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeClientFolder } from "../fixtures/fake-client.ts";
import { type HoldScript, startHoldScript } from "../fixtures/hold-script.ts";

const { readSuperblock } = await import(join(import.meta.dirname, "../../scripts/kit/covered-folders.mjs"));

let root: string;
let data: string;
let server: ChildProcess;
beforeAll(async () => {
	root = mkdtempSync("/dev/shm/stillpoint-test-mysql-");
	data = join(root, "data");
	mkdirSync(data);
	// The script looks for a process of the server's name that works in the data folder.
	copyFileSync("/bin/sleep", join(root, "mysqld"));
	server = spawn(join(root, "mysqld"), ["300"], { cwd: data, stdio: "ignore" });
	await once(server, "spawn");
});
afterAll(async () => {
	const ended = once(server, "exit");
	server.kill("SIGKILL");
	await ended;
	rmSync(root, { recursive: true });
});

type Bench = ReturnType<typeof makeBench>;
/** A server's answers, and what was said to it. */
function makeBench() {
	const stack = new AsyncDisposableStack();
	const folder = mkdtempSync(join(root, "bench-"));
	const clients = makeClientFolder(folder, "mysql", "fake-mysql.mjs");
	const state = join(folder, "state.json");
	let answers: Record<string, unknown> = {
		version: "8.0.36",
		variables: { datadir: `${data}/`, hostname: hostname(), socket: "/run/mysqld/mysqld.sock", read_only: "OFF" },
		status: { Innodb_redo_log_current_lsn: 2000, Innodb_redo_log_flushed_to_disk_lsn: 2000 },
		privileges: ["SELECT", "RELOAD", "PROCESS", "REPLICATION CLIENT", "BACKUP_ADMIN"],
		files: [],
		queries: [],
		dropped: [],
		instrumented: true,
		gtids: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,\n4e11fa47-71ca-11e1-9e33-c80aa9429562:1-7",
	};
	const write = (changes: Record<string, unknown>) => {
		answers = { ...answers, ...changes };
		writeFileSync(`${state}.new`, JSON.stringify(answers));
		renameSync(`${state}.new`, state);
	};
	write({});
	const calls = () => readFileSync(`${state}.calls`, "utf8");
	return {
		folder,
		write,
		calls,
		/** Of the client, which is the connection: its locks end with it. */
		clientPid: () => Number(/^pid (\d+):/.exec(calls())?.[1]),
		hold(args: readonly string[] = [], input: object = {}): HoldScript {
			const words = ["--client", "mysql", "--client-folder", clients, ...args];
			return stack.use(startHoldScript("mariadb/mariadb-hold.mjs", words, { input }));
		},
		[Symbol.asyncDispose]: () => stack.disposeAsync(),
	};
}

async function expectRefused({ hold, calls, clientPid }: Bench, args: string[], status: number, says: string) {
	const held = hold(args);
	expect(await held.ended, held.output()).toBe(status);
	expect(held.output()).toContain(says);
	expect(held.output()).not.toContain("ready");
	expect(existsSync(`/proc/${clientPid()}`)).toBe(false);
	return calls();
}

const ddlLock = "LOCK INSTANCE FOR BACKUP";
const readLock = "FLUSH LOCAL TABLES WITH READ LOCK";

test.concurrent("it blocks DDL, then commits, has the log written, proves both locks and lets go; no setting is changed", async () => {
	await using bench = makeBench();
	const held = bench.hold();
	expect(await held.line(), held.output()).toBe("ready");
	const taken = bench.calls().split("\n");
	const order = [ddlLock, readLock].map((statement) => taken.indexOf(statement));
	expect(order[0]).toBeGreaterThan(0);
	expect(order[1]).toBeGreaterThan(order[0] as number);
	expect(taken.lastIndexOf("FLUSH LOCAL ENGINE LOGS")).toBeGreaterThan(order[1] as number);
	expect(taken).not.toContain("UNLOCK TABLES");
	expect(await held.release()).toBe("held");
	expect(await held.ended).toBe(0);
	expect(bench.calls()).toMatch(/metadata_locks[\s\S]*metadata_locks[\s\S]*\nUNLOCK TABLES\nUNLOCK INSTANCE\n/);
	expect(bench.calls()).not.toMatch(/read_only|GLOBAL [a-z_]+ *=|SET (GLOBAL|PERSIST)|event_scheduler/i);
	expect(existsSync(`/proc/${bench.clientPid()}`)).toBe(false);
});

test.concurrent("a statement that runs for long is refused by name before the flush that would wait for it", async () => {
	await using bench = makeBench();
	bench.write({ queries: [{ id: 77, seconds: 12 }] });
	const calls = await expectRefused(bench, [], 75, "connection 77 runs a statement for 12 s");
	expect(calls).toContain(ddlLock);
	expect(calls).not.toContain(readLock);
	const allowed = bench.hold(["--long-query-limit-ms", "20000"]);
	expect(await allowed.line(), allowed.output()).toBe("ready");
});

test.concurrent("others' locks are waited for up to the limit only; then the connection is over, and all that it locked", async () => {
	await using one = makeBench();
	await using other = makeBench();
	one.write({ busy: ddlLock });
	other.write({ busy: readLock });
	const calls = await Promise.all(
		[one, other].map((bench) =>
			expectRefused(bench, ["--lock-timeout-ms", "2000"], 75, "ERROR 1205 (HY000) at line 1: Lock wait timeout"),
		),
	);
	expect(calls[0]).not.toContain(readLock);
	expect(calls[1]).toContain(readLock);
	for (const said of calls) expect(said).toMatch(/\nSET SESSION lock_wait_timeout = 2\nLOCK INSTANCE FOR BACKUP\n/);
});

test.concurrent.each([
	["BACKUP_ADMIN", "the BACKUP_ADMIN privilege(s)"],
	["RELOAD", "the RELOAD privilege(s)"],
	["SELECT", "the locks can't be looked at"],
])("without the %s privilege it is denied, with the GRANT to give", async (missing, says) => {
	await using bench = makeBench();
	const all = ["SELECT", "RELOAD", "BACKUP_ADMIN"];
	bench.write({ privileges: all.filter((privilege) => privilege !== missing) });
	const held = bench.hold();
	expect(await held.ended, held.output()).toBe(77);
	expect(held.output()).toContain(says);
	expect(held.output()).toContain("it needs GRANT RELOAD, BACKUP_ADMIN, PROCESS, REPLICATION CLIENT ON *.* TO");
});

test.concurrent.each([
	["an old server", { version: "8.0.21" }, 78, "server version 8.0.21 is not supported"],
	["a much older one", { version: "5.7.44-log" }, 78, "MySQL from 8.0.22"],
	["a tablespace elsewhere", { files: ["/sys/far.ibd"] }, 78, "tablespace /sys/far.ibd (/sys) is not in the snapshot"],
	["another machine's server", { variables: { hostname: "elsewhere" } }, 78, "the server runs on elsewhere"],
])("%s is refused before anything is locked", async (_what, answers, status, says) => {
	await using bench = makeBench();
	bench.write(answers);
	const input = { fileSystems: [{ mountPoint: "/dev/shm", superblock: readSuperblock(data) }] };
	const held = bench.hold([], input);
	expect(await held.ended, held.output()).toBe(status);
	expect(held.output()).toContain(says);
	expect(bench.calls()).not.toMatch(/^(LOCK|FLUSH|SET)/m);
});

test.concurrent.each([
	["the lock on commits is gone", { dropped: ["COMMIT"] }, "not locked: COMMIT"],
	["all locks are gone", { dropped: ["BACKUP LOCK", "COMMIT", "GLOBAL"] }, "not locked: BACKUP LOCK, COMMIT, GLOBAL"],
	["something was committed", { gtids: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-6" }, "something was committed"],
])("when at the proof %s, the hold was lost", async (_what, answers, says) => {
	await using bench = makeBench();
	const held = bench.hold();
	expect(await held.line(), held.output()).toBe("ready");
	bench.write(answers);
	expect(await held.release()).toMatch(new RegExp(`^lost .*${says}`));
	expect(await held.ended).toBe(1);
});

test.concurrent.each([
	["the client dies", ({ clientPid }: Bench) => void process.kill(clientPid(), "SIGKILL"), "SIGKILL"],
	["the server ends the connection", ({ write }: Bench) => write({ cut: true }), "ERROR 2013"],
])("when %s in the hold, the hold is lost at once, unasked", async (_what, cut, says) => {
	await using bench = makeBench();
	const held = bench.hold();
	expect(await held.line(), held.output()).toBe("ready");
	cut(bench);
	expect(await held.line()).toMatch(new RegExp(`^lost the connection is gone: .*${says}`));
	expect(await held.ended).toBe(1);
});

test.concurrent("no password stands in an output or a command line, and one that is refused is denied", async () => {
	await using bench = makeBench();
	const credentials = join(bench.folder, "credentials");
	writeFileSync(credentials, "[client]\nuser = u\npassword = s3cr&t/é\n", { mode: 0o600 });
	bench.write({ password: "s3cr&t/é" });
	const held = bench.hold(["--credentials", credentials]);
	expect(await held.line(), held.output()).toBe("ready");
	expect(await held.release()).toBe("held");
	bench.write({ password: "another" });
	const denied = bench.hold(["--credentials", credentials]);
	expect(await denied.ended).toBe(77);
	expect(denied.output()).toContain("ERROR 1045");
	for (const text of [held.output(), denied.output(), bench.calls()]) expect(text).not.toMatch(/s3cr|another/);
});

test.concurrent("a dry run looks at the rights and sends no statement that locks or flushes", async () => {
	await using bench = makeBench();
	const tried = bench.hold(["--dry-run"]);
	tried.closeInput();
	expect(await tried.ended, tried.output()).toBe(0);
	expect(bench.calls()).toContain("SHOW GRANTS");
	expect(bench.calls()).not.toMatch(/^(LOCK|FLUSH|SET)/m);
	bench.write({ privileges: ["RELOAD"] });
	const denied = bench.hold(["--dry-run"]);
	denied.closeInput();
	expect(await denied.ended).toBe(77);
	expect(denied.output()).toContain("BACKUP_ADMIN");
});
