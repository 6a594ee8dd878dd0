/** The databases of Azure's workload.conf: real servers on a frozen file system, in a whole job. */
import { chmod, mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { noOtherScripts } from "../../contracts/other-scripts.ts";
import { bundleInto } from "../fixtures/bundle.ts";
import { type LoopFileSystem, makeLoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { type MariadbServer, makeDataFolders, openMariadb } from "../fixtures/mariadb-server.ts";
import {
	makeCluster,
	makeServerFolder,
	type PostgresqlServer,
	postgresqlProgram,
} from "../fixtures/postgresql-cluster.ts";
import { takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools(
	"root",
	"mkfs.ext4",
	"losetup",
	"mount",
	"fsfreeze",
	"setpriv",
	"psql",
	"mariadbd",
	"mariadb",
);

describe.skipIf(missing)(`databases of workload.conf${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const stack = new AsyncDisposableStack();
	let disk: LoopFileSystem;
	let postgres: PostgresqlServer;
	let mariadb: MariadbServer;
	let command: [string, ...string[]];

	beforeAll(async () => {
		// The server's user must get through.
		await chmod(bench.dir, 0o711);
		disk = stack.use(await makeLoopFileSystem({ dir: bench.dir, fsType: "ext4", sizeMiB: 320, name: "data" }));
		const folder = join(disk.mountPoint, "mariadb");
		// As it is installed: root's own, with the shipped scripts beside it, wherever the checkout lies.
		const dist = join(bench.dir, "dist");
		command = [process.execPath, join(dist, "extensions/VMSnapshotLinux/vm-snapshot-linux.mjs"), "snapshot"];
		const [cluster] = await Promise.all([
			makeServerFolder(join(disk.mountPoint, "postgres")).then((path) => makeCluster(path)),
			makeDataFolders(folder),
			bundleInto(dist),
		]);
		postgres = stack.use(cluster);
		mariadb = stack.use(await openMariadb(folder));
		await Promise.all([postgres.start(), mariadb.start()]);
	});
	afterAll(() => stack.disposeAsync());

	test("PostgreSQL is held by what the file says, and let go", async () => {
		const client = `command_path = ${postgresqlProgram("psql")}\nlinux_user = postgres\n`;
		const login = `credString = -h ${postgres.socketFolder}\nrole = master\ntimeout = 60\n`;
		const { report, stalled } = await snapshot(`postgres\n${client}${login}`, () =>
			postgres.query("SELECT pg_is_in_recovery()"),
		);
		expect(report).toMatchObject({ achieved: "application", because: [] });
		expect(report.scripts).toMatchObject([{ name: "postgres", source: "azure-workload", held: true }]);
		expect(stalled).toBe("f");
		expect(await postgres.query("CREATE TABLE after (x int); SELECT count(*) FROM after")).toBe("0");
	});

	test("one in another role lowers the level, and was never held", async () => {
		const login = `linux_user = postgres\ncredString = -h ${postgres.socketFolder}\nrole = slave\n`;
		const { report } = await snapshot(`postgres\n${login}`);
		expect(report).toMatchObject({ achieved: "file-system", because: ["script-failed"] });
		expect(report.scripts[0]?.outputTail).toContain("the server is a primary");
	});

	test("MariaDB is held by the file that credString names, and let go", async () => {
		const credentials = join(bench.dir, "mariadb.cnf");
		await writeFile(credentials, `[client]\nsocket = ${mariadb.socket}\nuser = root\n`, { mode: 0o600 });
		const { report, stalled } = await snapshot(
			`mariadb\ncommand_path = /usr/bin\ncredString = --defaults-extra-file=${credentials}\nipc_folder = /tmp\n`,
			() => mariadb.query("SELECT @@read_only"),
		);
		expect(report).toMatchObject({ achieved: "application", because: [] });
		expect(report.scripts).toMatchObject([{ name: "mariadb", source: "azure-workload", held: true }]);
		expect(stalled).toEqual([["0"]]);
		expect(await mariadb.query("CREATE DATABASE after; SELECT 1")).toEqual([["1"]]);
	});

	/** @param during what it answers while all is frozen */
	async function snapshot(name: string, during: () => Promise<unknown> = async () => undefined) {
		const azureFolder = await mkdtemp(join(bench.dir, "azure-"));
		await writeFile(join(azureFolder, "workload.conf"), `[workload]\nworkload_name = ${name}`, { mode: 0o600 });
		const request = { otherScripts: { ...noOtherScripts, azureFolder } };
		const host = await bench.start([disk], { level: "application", holdLimitMs: 30_000 }, { request, command });
		await toFrozen(host);
		const stalled = await during();
		return { stalled, report: await takeSnapshot(host, [disk]) };
	}
});
