/** Copies of real databases, good, damaged and hostile, as they would lie in an image: folders, and one whole image. */
import {
	access,
	chmod,
	mkdir,
	mkdtemp,
	open,
	readdir,
	readFile,
	readlink,
	rename,
	rm,
	symlink,
	truncate,
	writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DatabaseKind, DatabaseWork } from "../../controller/verify/databases/database-kind.ts";
import { resolveInGuest } from "../../controller/verify/databases/guest-path.ts";
import { mariadb } from "../../controller/verify/databases/mariadb.ts";
import { postgresql } from "../../controller/verify/databases/postgresql.ts";
import { redisAppendOnly, redisDump } from "../../controller/verify/databases/redis.ts";
import { verifyRecoveryPoint } from "../../controller/verify/verify-recovery-point.ts";
import type { CrashedDatabase } from "../fixtures/crashed-databases.ts";
import { crashMariadb, crashPostgresql } from "../fixtures/crashed-databases.ts";
import { copyImage, hold, writeManifest } from "../fixtures/held-recovery-point.ts";
import { makeLoopFileSystem, requireTools, startGuard } from "../fixtures/loop-file-system.ts";

const undo = new AsyncDisposableStack();
let dir = "";
let scratchDir = "";
let next = 0;

beforeAll(async () => {
	if (requireTools("root")) return;
	dir = await mkdtemp("/var/lib/stillpoint-test-databases-");
	await chmod(dir, 0o711);
	undo.defer(() => rm(dir, { recursive: true, force: true }));
	const guard = startGuard({ dir, limitMs: 300_000 });
	undo.defer(async () => guard[Symbol.dispose]());
	scratchDir = join(dir, "scratch");
	await mkdir(scratchDir);
});
afterAll(() => undo.disposeAsync());

/** A copy to spoil. */
async function copyOf({ folder }: CrashedDatabase): Promise<string> {
	next += 1;
	const to = join(dir, `copy-${next}`, "data");
	await mkdir(join(to, ".."));
	await execa("cp", ["--archive", folder, to]);
	return to;
}

async function check(kind: DatabaseKind, folder: string, changes: Partial<DatabaseWork> = {}) {
	const view = { root: join(folder, ".."), mountPoint: "/srv", otherMountPoints: ["/"] };
	const verdict = await kind.check(Buffer.from(folder), {
		scratchDir,
		startServers: true,
		programsPrefix: "/usr",
		limitMs: 60_000,
		follow: (target, from) => resolveInGuest(target, from, view),
		signal: AbortSignal.timeout(100_000),
		...changes,
	});
	return `${verdict.status}: ${verdict.detail}`;
}

async function spoil(path: string, atBytes: number, length: number): Promise<void> {
	await using file = await open(path, "r+");
	await file.write(Buffer.alloc(length, 0x5a), 0, length, atBytes);
}

const exists = (path: string) =>
	access(path).then(
		() => true,
		() => false,
	);

const poll = { timeout: 60_000, interval: 20 };

/** Of the confined program whose command line names the folder. */
async function findPidNamespace(folder: string): Promise<string | undefined> {
	const ours = await readlink("/proc/self/ns/pid");
	for (const pid of await allPids()) {
		const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
		const namespace = line.includes(folder) ? await readlink(`/proc/${pid}/ns/pid`).catch(() => ours) : ours;
		if (namespace !== ours) return namespace;
	}
	return undefined;
}

async function processesIn(namespace: string): Promise<string[]> {
	const pids = await allPids();
	const all = await Promise.all(pids.map((pid) => readlink(`/proc/${pid}/ns/pid`).catch(() => "")));
	return pids.filter((_, index) => all[index] === namespace);
}

async function allPids(): Promise<string[]> {
	return (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
}

const noPostgresql = requireTools("root", "psql", "mkfs.ext4", "e2fsck", "fsfreeze");
describe.skipIf(noPostgresql)(noPostgresql ? `PostgreSQL: ${noPostgresql}` : "PostgreSQL", () => {
	let crashed: CrashedDatabase;
	beforeAll(async () => {
		crashed = await crashPostgresql(dir);
	}, 60_000);

	test.concurrent("in an image: what is sound passes, what is damaged takes the label away, the rest is named", async () => {
		const point = join(dir, "point");
		await mkdir(point);
		await using one = await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 192, name: "image" });
		await execa("cp", ["--archive", crashed.folder, join(one.mountPoint, "main")]);
		await execa("mkfifo", [join(one.mountPoint, "main/base/pipe")]);
		await symlink("/etc/shadow", join(one.mountPoint, "main/server.key"));
		await mkdir(join(one.mountPoint, "mongo"));
		for (const name of ["WiredTiger", "WiredTiger.wt"]) await writeFile(join(one.mountPoint, "mongo", name), name);
		await mkdir(join(one.mountPoint, "mysql8/mysql"), { recursive: true });
		await writeFile(join(one.mountPoint, "mysql8/ibdata1"), "x");
		await writeFile(join(one.mountPoint, "dump.rdb"), "REDIS0009cut\u001b[1m");
		await writeFile(join(one.mountPoint, "temp-17.rdb"), "REDIS0009 that is being written");
		const held = await hold([one], () => copyImage(one.imagePath, join(point, "disk0.img")));
		await writeManifest(point, [{ name: "disk0", image: "disk0.img", fileSystems: [one] }], held, "application");
		const signal = AbortSignal.timeout(100_000);
		const { findings, agrees, looksLike } = await verifyRecoveryPoint(point, { scratchDir, signal });
		const databases = findings.filter((finding) => finding.check === "database");
		expect(databases.map(({ status, detail }) => `${status} ${detail}`).sort()).toEqual([
			expect.stringMatching(/^fail \/dump\.rdb: Redis dump: [\P{Cc}]*$/u),
			expect.stringMatching(
				/^pass \/main: PostgreSQL 15, in production, .*pg_amcheck finds nothing in 3 databases, all/,
			),
			expect.stringMatching(/^unknown \/mongo: MongoDB/),
			expect.stringMatching(/^unknown \/mysql8: MySQL/),
		]);
		expect({ agrees, looksLike }).toEqual({ agrees: false, looksLike: "file-system" });
	});

	test.concurrent("a check that is called off ends all that it started, whatever that ignores, and leaves nothing", async () => {
		const off = new AbortController();
		const own = join(dir, "called-off");
		await mkdir(own);
		const folder = await copyOf(crashed);
		await writeFile(join(folder, "attack"), "trap '' TERM INT HUP; while :; do sleep 1; done");
		const checking = check(postgresql, folder, { scratchDir: own, signal: off.signal });
		checking.catch(() => undefined);
		let namespace: string | undefined;
		await expect
			.poll(async () => {
				namespace ??= await findPidNamespace(own);
				return namespace === undefined ? 0 : (await processesIn(namespace)).length;
			}, poll)
			.toBeGreaterThan(3);
		off.abort(new Error("called off"));
		await expect(checking).rejects.toThrow("called off");
		await expect.poll(() => processesIn(namespace ?? ""), poll).toEqual([]);
		expect(await readdir(own)).toEqual([]);
	});

	test.concurrent.each(["table", "index"] as const)("a damaged page of a %s is found", async (which) => {
		const folder = await copyOf(crashed);
		await spoil(join(folder, crashed[which]), 5 * 8192 + 4000, 64);
		expect(await check(postgresql, folder)).toMatch(/^fail: .*pg_amcheck finds .*(invalid page|corrupt)/);
	});

	test.concurrent("without its control file it is no database, with half of it it fails", async () => {
		const folder = await copyOf(crashed);
		await truncate(join(folder, "global/pg_control"), 4096);
		expect(await check(postgresql, folder)).toMatch(/^fail: .*pg_control is cut/);
		await rm(join(folder, "global/pg_control"));
		expect(await check(postgresql, folder)).toMatch(/^unknown: .*no global.pg_control/);
	});

	test.concurrent("a cluster that lost its WAL fails; one that waits for WAL from elsewhere is unknown", async () => {
		const folder = await copyOf(crashed);
		for (const name of await readdir(join(folder, "pg_wal"))) {
			if (name.length === 24) await rm(join(folder, "pg_wal", name));
		}
		expect(await check(postgresql, folder)).toMatch(/^fail: .*does not start: could not locate/);
		await writeFile(join(folder, "recovery.signal"), "");
		expect(await check(postgresql, folder)).toMatch(/^unknown: .*needs WAL that is not in the cluster/);
	});

	test.concurrent("a standby is checked as if its primary were lost, and its configuration is not obeyed", async () => {
		const folder = await copyOf(crashed);
		const mark = join(dir, "touched-by-postgresql");
		await writeFile(join(folder, "standby.signal"), "");
		const commands = ["archive_command", "restore_command", "archive_cleanup_command", "ssl_passphrase_command"];
		const settings = [
			...commands.map((name) => `${name} = 'touch ${mark}'`),
			"shared_preload_libraries = '/copy/cluster/evil'",
			"max_connections = nonsense",
			"include_dir = '/copy/cluster/conf.d'",
		].join("\n");
		for (const name of ["postgresql.auto.conf", "postgresql.conf", "pg_hba.conf"]) {
			await writeFile(join(folder, name), settings);
		}
		expect(await check(postgresql, folder)).toMatch(/^pass: .*recovery ran and was ended as by a promotion/);
		expect(await exists(mark)).toBe(false);
	});

	test.concurrent("what a hostile cluster runs can do nothing outside of its copy", async () => {
		const folder = await copyOf(crashed);
		// The check of an index runs the functions of the guest that it is made with: here a shell command.
		const attack = `touch /tmp/ran || exit 10
			[ ! -e ${dir} ] || exit 11
			touch /usr/touched /etc/touched /touched 2>/dev/null && exit 12
			cp /usr/bin/true /copy/program && chmod +x /copy/program && /copy/program && exit 13
			unshare --user true && exit 14
			[ ! -e /proc/1 ] && [ ! -e /dev/vda ] && [ ! -e /etc/shadow ] || exit 15
			kill -9 1 && exit 16
			[ $(id -u) -gt 1000000000 ] || exit 17
			exit 42`;
		await writeFile(join(folder, "attack"), attack);
		expect(await check(postgresql, folder)).toMatch(/^fail: .*tried: child process exited with exit code 42/);
	});

	test.concurrent("links to WAL and tablespaces are followed inside of the file system only", async () => {
		const folder = await copyOf(crashed);
		await rename(join(folder, "pg_wal"), join(folder, "../wal"));
		await symlink("/srv/wal", join(folder, "pg_wal"));
		await mkdir(join(folder, "../space/PG_15_202209061"), { recursive: true });
		await symlink("/srv/data/../space", join(folder, "pg_tblspc/77777"));
		expect(await check(postgresql, folder)).toMatch(/^pass: /);
		const file = crashed.table;
		await rename(join(folder, file), join(folder, "../table"));
		await symlink("/srv/table", join(folder, file));
		expect(await check(postgresql, folder)).toContain(`${file} lies elsewhere by a link`);
		await rename(join(folder, "../table"), join(folder, file));
		await symlink("/etc", join(folder, "pg_tblspc/1"));
		expect(await check(postgresql, folder)).toMatch(/^unknown: .*tablespace 1 .*\/etc leads to another file system/);
		await rm(join(folder, "pg_tblspc/1"));
		await rm(join(folder, "pg_wal"));
		await symlink("../../../../etc", join(folder, "pg_wal"));
		expect(await check(postgresql, folder)).toMatch(/^unknown: .*its WAL .*another file system/);
	});

	test.concurrent("without a server of its version, or leave to start one, nothing is claimed", async () => {
		const missing = await check(postgresql, crashed.folder, { programsPrefix: join(dir, "no-usr") });
		expect(missing).toMatch(/^unknown: PostgreSQL 15, in production, checkpoint 0.*package postgresql-15/);
		expect(await check(postgresql, crashed.folder, { startServers: false })).toMatch(/^unknown: .*in production/);
		expect(await check(postgresql, crashed.folder, { limitMs: 100 })).toMatch(/^unknown: .*did not end within/);
		expect(await readdir(scratchDir)).not.toContain("postgresql");
	});
});

const noMariadb = requireTools("root", "mariadbd", "mariadb");
describe.skipIf(noMariadb)(noMariadb ? `MariaDB: ${noMariadb}` : "MariaDB", () => {
	let crashed: CrashedDatabase;
	beforeAll(async () => {
		crashed = await crashMariadb(dir);
	}, 60_000);

	test.concurrent("a data folder as a crash leaves it passes, and its configuration is not obeyed", async () => {
		const folder = await copyOf(crashed);
		for (const name of ["my.cnf", ".my.cnf"]) {
			await writeFile(join(folder, name), "[mariadbd]\nno-such-option=1\n[client]\nno-such-option=1\n");
		}
		expect(await check(mariadb, folder)).toMatch(
			/^pass: MariaDB 10.*recovery ran, CHECK TABLE finds nothing in \d+ tables, all/,
		);
	});

	test.concurrent("a damaged page of a table is found", async () => {
		const folder = await copyOf(crashed);
		for (const page of [5, 6, 7, 8, 9]) await spoil(join(folder, crashed.table), page * 16_384 + 6_000, 64);
		expect(await check(mariadb, folder)).toMatch(/^fail: MariaDB 10.*(CHECK TABLE finds|died|corrupt)/);
	});

	test.concurrent.each([
		[
			"a long value, which CHECK TABLE does not read,",
			"d/l.ibd",
			100 * 16_384 + 6_000,
			/innochecksum finds .*d\/l\.ibd/,
		],
		["MyISAM, which a server mends unseen,", "d/m.MYD", 105 * 500, /CHECK TABLE finds \d+ faults: d\.m/],
		["Aria, which a server mends unseen,", "d/n.MAD", 105 * 500, /CHECK TABLE finds \d+ faults: d\.n/],
	] as const)("a damaged page of %s is found", async (_what, file, atBytes, words) => {
		const folder = await copyOf(crashed);
		await spoil(join(folder, file), atBytes, 105);
		const said = await check(mariadb, folder);
		expect(said).toMatch(/^fail: /);
		expect(said).toMatch(words);
	});

	test.concurrent("a table without its file, or with a spoilt description, fails", async () => {
		const folder = await copyOf(crashed);
		await rm(join(folder, "d/z.ibd"));
		await truncate(join(folder, "d/m.frm"), 0);
		expect(await check(mariadb, folder)).toMatch(/^fail: .*CHECK TABLE finds [2-9] faults/);
	});

	test.concurrent("a backup that was not prepared, and tables behind links, are unknown", async () => {
		const folder = await copyOf(crashed);
		await rename(join(folder, "d/m.MYD"), join(folder, "../m.MYD"));
		await symlink("/srv/m.MYD", join(folder, "d/m.MYD"));
		expect(await check(mariadb, folder)).toMatch(/^unknown: .*a table lies outside of its folder \(d\/m\.MYD/);
		await writeFile(join(folder, "xtrabackup_checkpoints"), "backup_type = full-backuped\n");
		expect(await check(mariadb, folder)).toMatch(/^unknown: .*not prepared/);
	});

	test.concurrent("a data folder without its tablespace fails; with parts that lie elsewhere it is unknown", async () => {
		const folder = await copyOf(crashed);
		await symlink("/var/lib/other", join(folder, "elsewhere"));
		expect(await check(mariadb, folder)).toMatch(/^unknown: .*elsewhere is not in this file system/);
		await rm(join(folder, "elsewhere"));
		await rename(join(folder, "ib_logfile0"), join(folder, "../ib_logfile0"));
		expect(await check(mariadb, folder)).toMatch(/^unknown: .*redo log is not in its folder/);
		await rename(join(folder, "../ib_logfile0"), join(folder, "ib_logfile0"));
		await truncate(join(folder, "ibdata1"), 1 << 20);
		expect(await check(mariadb, folder)).toMatch(/^fail: .*does not start/);
		await truncate(join(folder, "ibdata1"), 0);
		expect(await check(mariadb, folder)).toMatch(/^fail: .*ibdata1 has no header/);
	});

	test.concurrent("without a server, or with an older one, nothing is claimed", async () => {
		const folder = await copyOf(crashed);
		expect(await check(mariadb, folder, { programsPrefix: join(dir, "no-usr") })).toMatch(/^unknown: .*needs mariadbd/);
		for (const name of ["mariadb_upgrade_info", "mysql_upgrade_info"]) {
			await writeFile(join(folder, name), "99.1.0-MariaDB");
		}
		expect(await check(mariadb, folder)).toMatch(/^unknown: MariaDB 99.1.0: newer than the server/);
	});
});

const noRedis = requireTools("root", "redis-cli");
describe.skipIf(noRedis)(noRedis ? `Redis: ${noRedis}` : "Redis", () => {
	const empty = Buffer.concat([Buffer.from("REDIS0009"), Buffer.from([0xff]), Buffer.alloc(8)]);

	test.concurrent("a whole dump passes, a cut one fails, one of a later Redis is unknown", async () => {
		const path = join(dir, "dump.rdb");
		await writeFile(path, empty);
		expect(await check(redisDump, path)).toMatch(/^pass: Redis dump: 0 keys/);
		await writeFile(path, empty.subarray(0, 9));
		expect(await check(redisDump, path)).toMatch(/^fail: .*Unexpected EOF/);
		await writeFile(path, empty.toString("latin1").replace("0009", "0999"), "latin1");
		expect(await check(redisDump, path)).toMatch(/^unknown: .*newer than what is installed/);
		expect(await check(redisDump, path, { programsPrefix: join(dir, "no-usr") })).toMatch(/^unknown: .*redis-tools/);
	});

	test.concurrent("a whole append-only file passes, a damaged one fails", async () => {
		const folder = join(dir, "appendonlydir");
		await mkdir(folder);
		await writeFile(join(folder, "a.aof.manifest"), "file a.aof.1.incr.aof seq 1 type i\n");
		await writeFile(join(folder, "a.aof.1.incr.aof"), "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
		expect(await check(redisAppendOnly, join(folder, "a.aof.manifest"))).toMatch(/^pass: Redis append-only file/);
		await spoil(join(folder, "a.aof.1.incr.aof"), 6, 2);
		expect(await check(redisAppendOnly, join(folder, "a.aof.manifest"))).toMatch(/^fail: .*Expected/);
	});
});
