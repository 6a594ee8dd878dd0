import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FolderSight } from "../../controller/verify/databases/database-kind.ts";
import { databaseKinds } from "../../controller/verify/databases/database-kinds.ts";
import { resolveInGuest } from "../../controller/verify/databases/guest-path.ts";
import { isNewer, parsePageSize, parseVersion } from "../../controller/verify/databases/mariadb-files.ts";
import { judgeServer, parseChecks } from "../../controller/verify/databases/mariadb-judgement.ts";
import { serverArguments } from "../../controller/verify/databases/mariadb-script.ts";
import { parseControlFile } from "../../controller/verify/databases/postgresql-control.ts";
import { judgeCluster } from "../../controller/verify/databases/postgresql-judgement.ts";
import { judgeRedis } from "../../controller/verify/databases/redis.ts";
import { parseSteps } from "../../controller/verify/databases/step-output.ts";

describe("what is found in a folder", () => {
	const find = (files: Record<string, string | Buffer>, folders: string[] = []) => {
		const sight: FolderSight = { path: Buffer.from("/a"), heads: new Map(), folders: new Set() };
		const tells = (name: string, head: Buffer | undefined) => databaseKinds.some((kind) => kind.tells(name, head));
		for (const [name, head] of Object.entries(files)) {
			if (tells(name, Buffer.from(head))) sight.heads.set(name, Buffer.from(head));
		}
		for (const name of folders) if (tells(name, undefined)) sight.folders.add(name);
		return databaseKinds.flatMap((kind) => kind.find(sight).map((path) => `${kind.name} ${path.toString("latin1")}`));
	};
	const oracle = Buffer.concat([Buffer.from([0, 0xc2, 0, 0]), Buffer.alloc(24), Buffer.from("}|{z")]);

	test.each([
		["PostgreSQL /a", { PG_VERSION: "15\n" }, ["global", "base"]],
		["PostgreSQL /a", { PG_VERSION: "15\n" }, ["global"]],
		["MariaDB /a", { ibdata1: "x", aria_log_control: "x" }, ["mysql"]],
		["MySQL /a", { ibdata1: "x", "mysql.ibd": "x" }, ["mysql"]],
		["Redis dump /a/dump.rdb", { "dump.rdb": "REDIS0009" }, []],
		["Redis append-only file /a/x.aof.manifest", { "x.aof.manifest": "file", "x.aof.1.base.rdb": "REDIS0009" }, []],
		["MongoDB (WiredTiger) /a", { WiredTiger: "x", "WiredTiger.wt": "x" }, []],
		["Oracle /a/control01.ctl", { "control01.ctl": oracle }, []],
		["SQLite /a/\xff.db", { "\xff.db": "SQLite format 3\0" }, []],
	])("%s", (found, files, folders) => {
		expect(find(files as Record<string, string>, folders)).toEqual([found]);
	});

	test.each([
		["a database of a cluster", { PG_VERSION: "15\n" }, ["base"]],
		["a version that is none", { PG_VERSION: "fifteen" }, ["global", "base"]],
		["a dump that is being written", { "temp-12.rdb": "REDIS0009" }, []],
		["a file of that name only", { "dump.rdb": "x" }, []],
		["half of a data folder", { aria_log_control: "x" }, ["mysql"]],
		["nothing", {}, ["global", "base", "mysql"]],
	])("not %s", (_, files, folders) => {
		expect(find(files as Record<string, string>, folders)).toEqual([]);
	});
});

describe("links of the guest", () => {
	let root = "";
	beforeAll(async () => {
		root = await mkdtemp(join(tmpdir(), "stillpoint-links-"));
		await mkdir(join(root, "pg/wal"), { recursive: true });
		await symlink("/srv/pg", join(root, "short"));
		await symlink("/etc", join(root, "out"));
		await symlink("round", join(root, "round"));
	});
	afterAll(() => rm(root, { recursive: true, force: true }));
	const follow = async (target: string, mountPoint: string | undefined = "/srv", others = ["/", "/srv/other"]) => {
		const found = await resolveInGuest(target, Buffer.from(join(root, "pg")), {
			root,
			mountPoint,
			otherMountPoints: others,
		});
		return "path" in found ? found.path.toString().replace(root, "ROOT") : "elsewhere";
	};

	test.each([
		["/srv/pg/wal", "ROOT/pg/wal"],
		["wal", "ROOT/pg/wal"],
		["../short/wal/.", "ROOT/pg/wal"],
		["/srv/short/../pg//wal", "ROOT/pg/wal"],
		["/srv", "ROOT"],
	])("%s leads to %s", async (target, path) => {
		expect(await follow(target)).toBe(path);
	});

	test.each(["/etc", "/srv/out", "../../etc", "/srv/out/passwd", "/srv/other/x", "/srv/none", "/srv/round", "/", ".."])(
		"%s leads out, or nowhere",
		async (target) => {
			const found = await follow(target);
			expect(found === "elsewhere" || found === "ROOT").toBe(true);
		},
	);

	test("nothing is known of a file system whose mount point the report does not say", async () => {
		const view = { root, mountPoint: undefined, otherMountPoints: [] };
		expect(await resolveInGuest("/srv/pg", Buffer.from(root), view)).toHaveProperty("elsewhere");
	});

	test("the guest's root leads into itself, however often one goes up", async () => {
		expect(await follow("../../../../../pg/wal", "/", ["/srv"])).toBe("ROOT/pg/wal");
	});
});

describe("PostgreSQL", () => {
	const step = (exitCode: number, output = "") => ({ exitCode, output });
	const none = { endsRecovery: false, fromBackup: false };
	const good = { start: step(0), databases: step(0, "2"), collations: step(0), amcheck: step(0), stop: step(0) };
	const judge = (changes: Record<string, ReturnType<typeof step>>, copy = none) =>
		judgeCluster(new Map(Object.entries({ ...good, ...changes })), copy).status;
	const order = 'btree index "d.s.i":\n    ERROR:  item order invariant violated for index "i"';

	test("a control file is read to its state and its checkpoint; less than the whole is none", () => {
		const bytes = Buffer.alloc(8192);
		bytes.writeUInt32LE(1300, 8);
		bytes.writeUInt32LE(6, 16);
		bytes.writeBigUInt64LE((1n << 32n) | 0xabcn, 32);
		expect(parseControlFile(bytes)).toEqual({ state: "in production", checkpoint: "1/ABC" });
		expect(parseControlFile(bytes.subarray(0, 8191))).toBeUndefined();
		expect(parseControlFile(Buffer.alloc(8192))).toBeUndefined();
		bytes.writeUInt32LE(7, 16);
		expect(parseControlFile(bytes)).toBeUndefined();
	});

	test.each([
		["pass", {}, none],
		["pass", { checksums: step(0, "Blocks scanned:  7") }, none],
		["fail", { checksums: step(1, 'error: checksum verification failed in file "x"') }, none],
		["unknown", { checksums: step(1, "cluster must be shut down") }, none],
		["fail", { start: step(1, "x PANIC:  could not locate a valid checkpoint record") }, none],
		[
			"unknown",
			{ start: step(1, "x PANIC:  could not locate a valid checkpoint record") },
			{ ...none, fromBackup: true },
		],
		["unknown", { start: step(1, "x FATAL:  could not map anonymous shared memory") }, none],
		["unknown", { start: step(1, "x LOG:  redo in progress") }, none],
		["fail", { start: step(1, "x LOG:  startup process (PID 3) was terminated by signal 11") }, none],
		["unknown", { start: step(1, "x LOG:  startup process (PID 3) was terminated by signal 9") }, none],
		["fail", { amcheck: step(2, 'heap table "d.s.t", block 1:\n    invalid page') }, none],
		["fail", { amcheck: step(2, order) }, none],
		["unknown", { amcheck: step(2, order), collations: step(0, "d") }, none],
		["unknown", { amcheck: step(1, "error: FATAL:  database locale is incompatible with operating system") }, none],
		[
			"unknown",
			{ amcheck: step(1, 'btree index "d.s.i":\n    ERROR:  could not access file "$libdir/postgis-3"') },
			none,
		],
		["unknown", { amcheck: step(2, "index: bad"), log: step(0, "terminated by signal 9: Killed") }, none],
		["unknown", { "no-role": step(0, "x") }, none],
	])("%s", (status, changes, copy) => {
		expect(judge(changes as Record<string, ReturnType<typeof step>>, copy), JSON.stringify(changes)).toBe(status);
	});

	test("a check that was cut short is never a pass", () => {
		for (const name of ["start", "amcheck"]) {
			const steps = new Map(Object.entries(good).filter(([key]) => key !== name));
			expect(judgeCluster(steps, none).status).toBe("unknown");
		}
	});

	test("only steps that ended, under the right mark, count", () => {
		const output = "m begin a\nx\nother end a 0\nm end a 3\nm begin b\nm end c 0\ny\n";
		expect([...parseSteps(output, "m")]).toEqual([["a", { exitCode: 3, output: "x\nother end a 0" }]]);
	});
});

describe("MariaDB", () => {
	test("versions are compared by series", () => {
		expect(parseVersion(Buffer.from("mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for debian"))).toBe("10.11.14");
		expect(parseVersion(Buffer.from("8.0.40"))).toBeUndefined();
		expect(isNewer("11.4.1", "10.11.14")).toBe(true);
		expect(isNewer("10.11.15", "10.11.14")).toBe(false);
		expect(isNewer("10.5.1", "10.11.14")).toBe(false);
	});

	test("the page size comes from the flags of the first page", () => {
		const page = (flags: number, type = 8) => {
			const bytes = Buffer.alloc(4096);
			bytes.writeUInt16BE(type, 24);
			bytes.writeUInt32BE(flags, 54);
			return bytes;
		};
		expect(parsePageSize(page(0))).toBe(16_384);
		expect(parsePageSize(page(0x15))).toBe(16_384);
		expect(parsePageSize(page(0x13))).toBe(4_096);
		expect(parsePageSize(page(7 << 6))).toBe(65_536);
		expect(parsePageSize(page(0, 3))).toBeUndefined();
		expect(parsePageSize(page(0x1f))).toBeUndefined();
		expect(parsePageSize(Buffer.alloc(10))).toBeUndefined();
	});

	test("the binary log is named when it is there, a relay log is not", () => {
		const named = (files: string[]) => serverArguments(files, 16_384, 12 << 20).find((one) => one.includes("log-bin"));
		expect(named(["bin.index", "bin.000001"])).toBe("--log-bin=/copy/data/bin");
		expect(named(["relay-bin.index", "relay-bin.000001"])).toBe("--skip-log-bin");
		expect(named(["x --evil.index", "x --evil.000001"])).toBe("--skip-log-bin");
	});

	test("a table that was not closed is no fault; a storage engine that is not here is not known", () => {
		const rows = (...lines: string[][]) => lines.map((line) => line.join("\t")).join("\n");
		const ok = ["d.t", "check", "status", "OK"];
		const judge = (output: string, log = "") =>
			judgeServer(
				new Map([
					["start", { exitCode: 0, output: "" }],
					["list", { exitCode: 0, output: "" }],
					["check", { exitCode: 0, output }],
					["log", { exitCode: 0, output: log }],
				]),
			).status;
		expect(judge(rows(ok, ["d.u", "check", "warning", "not closed"], ["d.u", "check", "status", "OK"]))).toBe("pass");
		expect(judge(rows(ok, ["d.u", "check", "Error", "Unknown storage engine 'ROCKSDB'"]))).toBe("unknown");
		expect(judge(rows(ok, ["d.u", "check", "error", "Corrupt"]))).toBe("fail");
		expect(judge("ERROR 2013 (HY000) at line 2: Lost connection to server", "[ERROR] got signal 6")).toBe("fail");
		expect(judge("ERROR 2013 (HY000) at line 2: Lost connection", "[ERROR] InnoDB: Cannot allocate memory")).toBe(
			"unknown",
		);
		expect(parseChecks(rows(ok, ok)).tables).toBe(2);
	});

	test("a server that does not start says of the data what it can only have from it", () => {
		const judge = (log: string) => judgeServer(new Map([["start", { exitCode: 1, output: log }]])).status;
		expect(judge("x [ERROR] InnoDB: Missing FILE_CHECKPOINT")).toBe("fail");
		expect(judge("x [ERROR] InnoDB: Upgrade after a crash is not supported.")).toBe("unknown");
		expect(judge("x [ERROR] Found 1 prepared transactions! It means")).toBe("unknown");
		expect(judge("")).toBe("unknown");
	});
});

test("Redis passes by exit status only, and a later format is not known", () => {
	expect(judgeRedis({ exitCode: 0, output: "[info] 3 keys read" })).toMatchObject({ status: "pass" });
	expect(judgeRedis({ exitCode: 1, output: "[offset 9] Can't handle RDB format version 99" }).status).toBe("unknown");
	expect(judgeRedis({ exitCode: 1, output: "" }).status).toBe("fail");
});
