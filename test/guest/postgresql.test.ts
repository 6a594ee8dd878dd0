/** Real PostgreSQL on frozen file systems: what a snapshot of it is worth when its copy is started. */
import { chmod, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type HoldScript, startHoldScript } from "../fixtures/hold-script.ts";
import { type LoopFileSystem, makeLoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { copyImages, mountCopies } from "../fixtures/mounted-copies.ts";
import { poll } from "../fixtures/poll.ts";
import {
	makeCluster,
	makeServerFolder,
	openServer,
	type PostgresqlServer,
	runAsPostgres,
} from "../fixtures/postgresql-cluster.ts";
import {
	checkChecksums,
	cutLog,
	damagePage,
	findDamage,
	findShopFaults,
	findTablespace,
	openCopy,
} from "../fixtures/postgresql-copy.ts";
import { makeShop, type PostgresqlWriters, startWriters } from "../fixtures/postgresql-writers.ts";
import { copyProductScripts, type ProductScripts } from "../fixtures/product-scripts.ts";
import { takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const { readSuperblock } = await import(join(import.meta.dirname, "../../scripts/kit/covered-folders.mjs"));
const missing = requireTools("root", "mkfs.ext4", "mkfs.xfs", "losetup", "mount", "fsfreeze", "setpriv", "psql");
const program = "postgresql/postgresql-hold.mjs";
const sound = { missing: [], halves: 0, damage: "" };

describe.skipIf(missing)(`PostgreSQL in a snapshot${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const stack = new AsyncDisposableStack();
	let scripts: ProductScripts;
	let data: LoopFileSystem;
	let log: LoopFileSystem;
	let plainDisk: LoopFileSystem;
	/** Its data, its write-ahead log and a tablespace lie on three disks. */
	let spread: PostgresqlServer;
	/** And a replica of it: both on one disk. */
	let plain: PostgresqlServer;
	let replica: PostgresqlServer;
	let space: string;
	let logFolder: string;

	beforeAll(async () => {
		const { dir } = bench;
		// The server's user must get through.
		await chmod(dir, 0o711);
		scripts = await copyProductScripts(dir);
		data = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 128, name: "data" }));
		log = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 96, name: "log" }));
		plainDisk = stack.use(await makeLoopFileSystem({ dir, fsType: "xfs", sizeMiB: 400, name: "plain" }));
		const folders = [join(data.mountPoint, "cluster"), join(plainDisk.mountPoint, "cluster")] as const;
		const replicaFolder = await makeServerFolder(join(plainDisk.mountPoint, "replica"));
		space = await makeServerFolder(join(bench.one.mountPoint, "space"));
		for (const folder of folders) await makeServerFolder(folder);
		logFolder = await makeServerFolder(join(log.mountPoint, "wal"));
		[spread, plain] = await Promise.all([
			makeCluster(folders[0], { logFolder: join(logFolder, "pg_wal") }),
			makeCluster(folders[1]),
		]);
		stack.use(spread);
		stack.use(plain);
		await Promise.all([spread.start(), plain.start()]);
		await spread.query(`CREATE TABLESPACE elsewhere LOCATION '${space}'`);
		await Promise.all([makeShop(spread, "elsewhere"), makeShop(plain)]);
		for (const server of [spread, plain]) await server.query("CREATE EXTENSION amcheck");
		await runAsPostgres("pg_basebackup", "-R", "-c", "fast", "-h", plain.socketFolder, "-D", replicaFolder);
		replica = stack.use(await openServer(replicaFolder));
		await replica.start();
	});
	afterAll(() => stack.disposeAsync());

	describe("of three servers, one of them a replica, and their write-ahead log and tablespaces on other disks", () => {
		let writers: PostgresqlWriters[];
		let acknowledged: number[][];
		let copies: string;
		/** Copies of the copies, as images are written to when they are mounted. */
		let again: string;

		beforeAll(async () => {
			copies = join(bench.dir, "copies");
			writers = [startWriters(spread, 3), startWriters(plain, 2, 10_000_000)];
		});

		test("all are held at level application while clients write, and go on writing", async () => {
			for (const one of writers) await one.more(20);
			const disks = [data, log, plainDisk, bench.one];
			const host = await bench.start(
				disks,
				{ level: "application", holdLimitMs: 30_000 },
				{
					request: {
						scriptsFolder: await scripts.configure({
							spread: hold(spread),
							plain: hold(plain, "--role", "primary"),
							replica: hold(replica, "--role", "replica"),
							// So that there is something to lose behind the checkpoint.
							wait: { application: "wait", order: 900, pre: { command: ["/bin/sleep", "0.4"] } },
						}),
					},
				},
			);
			await toFrozen(host);
			await copyImages(disks, copies);
			// Until here nobody could acknowledge what is not in the copies.
			acknowledged = writers.map((one) => one.acknowledged());
			const report = await takeSnapshot(host, disks);
			again = await freshFolder(copies, "again");
			expect(report).toMatchObject({ achieved: "application", because: [] });
			expect(report.scripts.filter(({ held }) => held).map(({ name }) => name)).toEqual(["spread", "replica", "plain"]);
			for (const one of writers) {
				await one.more(20);
				await one.stop();
				expect(one.errors()).toBe("");
			}
			for (const server of [spread, plain, replica]) await expectNothingLeft(server);
		});

		test("the copies recover by themselves, without an acknowledged transaction missing or half a one", async () => {
			await using mounted = await mountCopies([data, log, plainDisk, bench.one], copies);
			const links = {
				pg_wal: join(logFolder, "pg_wal"),
				[`pg_tblspc/${await findTablespace(spread.dataFolder)}`]: space,
			};
			const checkOne = async (server: PostgresqlServer, index: number) => {
				await server.start();
				expect(await findShopFaults(server, acknowledged[index] ?? [])).toEqual(sound);
				await server.stop();
				await checkChecksums(server);
			};
			await using first = await openCopy(mounted, spread.dataFolder, links);
			await using second = await openCopy(mounted, plain.dataFolder);
			await using third = await openCopy(mounted, replica.dataFolder);
			await Promise.all([checkOne(first, 0), checkOne(second, 1), checkReplica(third)]);
			expect(acknowledged.map((ids) => ids.length > 20)).toEqual([true, true]);
			for (const server of [first, second]) expect(await server.log()).toContain("automatic recovery in progress");
		});

		test("the same looks find what a write-ahead log without its end has lost, and a damaged page", async () => {
			await using mounted = await mountCopies([data, log, bench.one], again);
			const links = {
				pg_wal: join(logFolder, "pg_wal"),
				[`pg_tblspc/${await findTablespace(spread.dataFolder)}`]: space,
			};
			await using server = await openCopy(mounted, spread.dataFolder, links);
			await cutLog(server, join(mounted.pathOf(logFolder), "pg_wal"));
			await server.start();
			expect((await findShopFaults(server, acknowledged[0] ?? [])).missing).not.toEqual([]);
			const table = await server.query("SELECT pg_relation_filepath('orders')");
			await server.stop();
			await checkChecksums(server);
			await damagePage(server, table);
			await expect(checkChecksums(server)).rejects.toThrow("checksum verification failed");
			await server.start();
			expect(await findDamage(server)).toContain("orders");
		});
	});

	test("a job that leaves out the disk of the write-ahead log freezes nothing, and names it", async () => {
		const request = { scriptsFolder: await scripts.configure({ spread: hold(spread) }) };
		const host = await bench.start([data, bench.one], { level: "application" }, { request });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		const report = await host.report();
		expect(report.error?.code).toBe("script-failed");
		expect(report.scripts[0]).toMatchObject({ exitCode: 78 });
		expect(report.scripts[0]?.outputTail).toMatch(/the write-ahead log.* is not in the snapshot/);
		expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
	});

	test.for([
		["tablespace", () => [data, log]],
		["the data folder", () => [log, bench.one]],
	] as const)("%s on a disk that is not ordered is named", async ([what, disks]) => {
		const fileSystems = disks().map(({ mountPoint }) => ({ mountPoint, superblock: readSuperblock(mountPoint) }));
		await using refused = startHold(["--socket", spread.socketFolder], { fileSystems });
		expect(await refused.ended).toBe(78);
		expect(refused.output()).toMatch(new RegExp(`${what}.* is not in the snapshot`));
	});

	test("a server that works in another folder than the one named is refused, also its own replica's", async () => {
		const args = ["--socket", plain.socketFolder, "--data-folder"];
		await using other = startHold([...args, spread.dataFolder]);
		expect(await other.ended).toBe(78);
		expect(other.output()).toContain("is not the data folder of the server that answers");
		await using twin = startHold([...args, replica.dataFolder]);
		expect(await twin.ended).toBe(78);
		expect(twin.output()).toContain("no process of it works in");
	});

	test("the role that is wanted is the role that is held", async () => {
		for (const [server, role] of [
			[plain, "replica"],
			[replica, "primary"],
		] as const) {
			await using refused = startHold(["--socket", server.socketFolder, "--role", role, "--dry-run"]);
			expect(await refused.ended).toBe(78);
			expect(refused.output()).toContain(`--role says ${role}`);
		}
	});

	test("a replica that is promoted while it is held is lost", async () => {
		await using held = startHold(["--socket", replica.socketFolder]);
		expect(await held.line()).toBe("ready");
		expect(await replica.query("SELECT pg_promote()")).toBe("t");
		expect(await held.release()).toMatch(/^lost .*recovery/);
		expect(await held.ended).toBe(1);
		await replica.query("CREATE TABLE writable (id int)");
	});

	function hold(server: PostgresqlServer, ...args: string[]): object {
		const command = ["SCRIPTS/postgresql/postgresql-hold.mjs", "--socket", server.socketFolder, ...args];
		const application = server === spread ? "spread" : server === plain ? "plain" : "replica";
		return { application, session: { command, deadlineMs: 30_000 } };
	}

	/** A replica streams again from its primary; its copy has nobody to stream from. */
	async function checkReplica(server: PostgresqlServer): Promise<void> {
		await rm(join(server.dataFolder, "postgresql.auto.conf"));
		await server.start();
		expect(await server.query("SELECT pg_is_in_recovery()")).toBe("t");
		expect(await findShopFaults(server, [])).toEqual(sound);
		expect(Number(await server.query("SELECT count(*) FROM orders"))).toBeGreaterThan(20);
	}

	async function expectNothingLeft(server: PostgresqlServer): Promise<void> {
		const ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stillpoint'";
		await poll(() => server.query(ours)).toBe("0");
		expect(await readdir(server.dataFolder)).not.toContain("backup_label");
	}
});

/** Told the facts of a job, as a person's hold would wait for them first. */
function startHold(args: readonly string[], input = {}): HoldScript {
	return startHoldScript(program, args, { input });
}

async function freshFolder(from: string, name: string): Promise<string> {
	await execa("mkdir", [join(from, name)]);
	await execa("sh", ["-c", `cp --sparse=always "$1"/*.img "$1/$2"`, "sh", from, name]);
	return join(from, name);
}
