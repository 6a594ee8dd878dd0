/** Real MariaDB on frozen file systems: what a snapshot of it is worth when its copy is started. */
import { once } from "node:events";
import { copyFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LoopFileSystem, makeLoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import {
	type MariadbServer,
	makeDataFolders,
	moveLogs,
	openMariadb,
	settingsOfLogs,
} from "../fixtures/mariadb-server.ts";
import {
	type Acknowledged,
	findShopFaults,
	type MariadbWriters,
	makeShop,
	startWriters,
} from "../fixtures/mariadb-shop.ts";
import { copyImages, type MountedCopies, mountCopies } from "../fixtures/mounted-copies.ts";
import { poll } from "../fixtures/poll.ts";
import { copyProductScripts, type ProductScripts } from "../fixtures/product-scripts.ts";
import { takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools("root", "mkfs.ext4", "mkfs.xfs", "losetup", "mount", "fsfreeze", "mariadbd", "mariadb");
const sound = { missingOrders: [], missingVisits: [], halves: 0, damage: [] };

describe.skipIf(missing)(`MariaDB in a snapshot${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const stack = new AsyncDisposableStack();
	let scripts: ProductScripts;
	let data: LoopFileSystem;
	let log: LoopFileSystem;
	let plainDisk: LoopFileSystem;
	let logs: string;
	/** Its logs lie on another disk than its data. It acknowledges what is in its memory only. */
	let spread: MariadbServer;
	/** And a replica of it: both on one disk, both as durable as MariaDB is by default. */
	let plain: MariadbServer;
	let replica: MariadbServer;

	beforeAll(async () => {
		const { dir } = bench;
		scripts = await copyProductScripts(dir);
		[data, log, plainDisk] = await Promise.all([
			makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 160, name: "data" }),
			makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 128, name: "log" }),
			makeLoopFileSystem({ dir, fsType: "xfs", sizeMiB: 500, name: "plain" }),
		]);
		for (const one of [data, log, plainDisk]) stack.use(one);
		logs = join(log.mountPoint, "logs");
		const folders = [
			join(data.mountPoint, "data"),
			join(plainDisk.mountPoint, "primary"),
			join(plainDisk.mountPoint, "replica"),
		] as const;
		await makeDataFolders(...folders);
		await moveLogs(folders[0], logs);
		const port = await findFreePort();
		const pair = ["--log-bin=binlog", "--gtid-strict-mode=1"];
		spread = await openMariadb(folders[0], spreadSettings(logs));
		plain = await openMariadb(folders[1], [...pair, "--server-id=1", "--bind-address=127.0.0.1", `--port=${port}`]);
		replica = await openMariadb(folders[2], [...pair, "--server-id=2"]);
		for (const server of [spread, plain, replica]) stack.use(server);
		await Promise.all([spread, plain, replica].map((server) => server.start()));
		await plain.query(
			"CREATE USER copier@'127.0.0.1' IDENTIFIED BY 'x'; GRANT REPLICATION SLAVE ON *.* TO copier@'127.0.0.1'",
		);
		await replica.query(
			`CHANGE MASTER TO master_host='127.0.0.1', master_port=${port}, master_user='copier', master_password='x',
			master_use_gtid=slave_pos; START SLAVE; SET GLOBAL read_only = 1`,
		);
		await Promise.all([makeShop(spread), makeShop(plain)]);
	});
	afterAll(() => stack.disposeAsync());

	describe("of three servers, one of them a replica, one with its logs on another disk", () => {
		let writers: MariadbWriters[];
		let acknowledged: Acknowledged[];
		let copies: string;
		let mounted: MountedCopies;

		test("all are held at level application while clients write, and go on writing", async () => {
			writers = [startWriters(spread, 3), startWriters(plain, 2, 10_000_000)];
			for (const one of writers) stack.use(one);
			for (const one of writers) await one.more(30);
			// A redo log of an earlier instant, for the control below.
			await copyFile(join(logs, "redo/ib_logfile0"), join(bench.dir, "early-redo"));
			for (const one of writers) await one.more(30);
			const disks = [data, log, plainDisk];
			const host = await bench.start(
				disks,
				{ level: "application", holdLimitMs: 30_000 },
				{
					request: {
						scriptsFolder: await scripts.configure({
							spread: hold("spread", spread),
							plain: hold("plain", plain, "--role", "primary"),
							replica: hold("replica", replica, "--role", "replica"),
						}),
					},
				},
			);
			await toFrozen(host);
			// Until the thaw nobody acknowledges what is not in the copies.
			acknowledged = writers.map((one) => one.acknowledged());
			copies = join(bench.dir, "copies");
			await copyImages(disks, copies);
			expect(writers.map((one) => one.acknowledged())).toEqual(acknowledged);
			const report = await takeSnapshot(host, disks);
			expect(report).toMatchObject({ achieved: "application", because: [] });
			expect(report.scripts.map(({ name, held }) => `${name} ${held}`).sort()).toEqual([
				"plain true",
				"replica true",
				"spread true",
			]);
			for (const one of writers) {
				await one.more(20);
				await one.stop();
				expect(one.errors()).toBe("");
			}
			expect(await replica.query("SELECT @@read_only")).toEqual([["1"]]);
			for (const server of [spread, plain, replica]) await expectNobodyLeft(server);
			await poll(() => position(replica)).toEqual(await position(plain));
		});

		test("the copies recover by themselves, without an acknowledged transaction missing or half a one", async () => {
			mounted = stack.use(await mountCopies([data, log, plainDisk], copies));
			// Kept for the control: recovery writes to what it starts from.
			await execa("cp", ["-r", "--sparse=always", mounted.pathOf(spread.dataFolder), join(bench.dir, "kept-data")]);
			await execa("cp", ["-r", "--sparse=always", mounted.pathOf(logs), join(bench.dir, "kept-log")]);
			await using first = await openMariadb(mounted.pathOf(spread.dataFolder), spreadSettings(mounted.pathOf(logs)));
			await using second = await openMariadb(mounted.pathOf(plain.dataFolder), ["--log-bin=binlog"]);
			await using third = await openMariadb(mounted.pathOf(replica.dataFolder), [
				"--log-bin=binlog",
				"--skip-slave-start",
			]);
			await Promise.all([first, second, third].map((server) => server.start()));
			expect(await findShopFaults(first, acknowledged[0] as Acknowledged)).toEqual(sound);
			expect(await findShopFaults(second, acknowledged[1] as Acknowledged)).toEqual(sound);
			expect(await findShopFaults(third, { orders: [], visits: [] })).toEqual(sound);
			expect(acknowledged.map(({ orders }) => orders.length > 50)).toEqual([true, true]);
			for (const server of [first, second, third]) expect(await server.log()).toContain("Starting crash recovery");
		});

		test("the same look finds what is lost with a redo log of an earlier instant", async () => {
			await copyFile(join(bench.dir, "early-redo"), join(bench.dir, "kept-log/redo/ib_logfile0"));
			await using server = await openMariadb(join(bench.dir, "kept-data"), spreadSettings(join(bench.dir, "kept-log")));
			await server.start();
			expect((await findShopFaults(server, acknowledged[0] as Acknowledged)).missingOrders).not.toEqual([]);
		});
	});

	test.each([
		["innodb_log_group_home_dir", () => [data]],
		["datadir", () => [log]],
	])("%s on a disk that is not ordered is named, and nothing is frozen", async (what, disks) => {
		const request = { scriptsFolder: await scripts.configure({ spread: hold("spread", spread) }) };
		const host = await bench.start(disks(), { level: "application" }, { request });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		const report = await host.report();
		expect(report.error?.code).toBe("script-failed");
		expect(report.scripts[0]).toMatchObject({ exitCode: 78 });
		expect(report.scripts[0]?.outputTail).toMatch(new RegExp(`${what} .* is not in the snapshot`));
		expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
	});
});

/** Nothing is promised of what is acknowledged, until the log is asked to be written. */
function spreadSettings(folder: string): string[] {
	return [...settingsOfLogs(folder), "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-log-at-timeout=2"];
}

function hold(application: string, server: MariadbServer, ...args: string[]): object {
	const command = [
		"SCRIPTS/mariadb/mariadb-hold.mjs",
		"--socket",
		server.socket,
		"--lock-timeout-ms",
		"20000",
		...args,
	];
	return { application, session: { command, deadlineMs: 30_000 } };
}

async function findFreePort(): Promise<number> {
	const server = createServer().listen(0, "127.0.0.1");
	await once(server, "listening");
	const address = server.address();
	server.close();
	await once(server, "close");
	return typeof address === "object" && address !== null ? address.port : 0;
}

async function position(server: MariadbServer): Promise<string[][]> {
	return await server.query("SELECT @@gtid_current_pos");
}

async function expectNobodyLeft(server: MariadbServer): Promise<void> {
	const others =
		"SELECT COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user = 'root' AND db IS NULL";
	await poll(() => server.query(others)).toEqual([["0"]]);
}
