/** What goes wrong around a hold of MariaDB: no label better than the truth, no server that is left locked. */
import { mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startHoldScript } from "../fixtures/hold-script.ts";
import { type LoopFileSystem, makeLoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { type MariadbServer, makeDataFolders, openMariadb } from "../fixtures/mariadb-server.ts";
import { poll } from "../fixtures/poll.ts";
import { copyProductScripts, type ProductScripts } from "../fixtures/product-scripts.ts";
import { isWritable, takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze", "mariadbd", "mariadb");
const program = "mariadb/mariadb-hold.mjs";
const password = "sesame-3f1c";

describe.skipIf(missing)(`MariaDB, when something goes wrong${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const stack = new AsyncDisposableStack();
	let scripts: ProductScripts;
	let disk: LoopFileSystem;
	let server: MariadbServer;

	beforeAll(async () => {
		const { dir } = bench;
		scripts = await copyProductScripts(dir);
		disk = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 160, name: "data" }));
		await makeDataFolders(join(disk.mountPoint, "data"));
		server = stack.use(await openMariadb(join(disk.mountPoint, "data")));
		await server.start();
		await server.query("CREATE DATABASE shop; CREATE TABLE shop.one (id INT); CREATE TABLE shop.two (id INT)");
	});
	afterAll(() => stack.disposeAsync());

	describe("in the window", () => {
		test.each([
			["its client is killed", async () => kill(await findProcess(`--socket=${server.socket}`))],
			["an admin ends its connection", async () => void (await server.query(`KILL ${await findConnection()}`))],
			["the script is killed", async () => kill(await findProcess(server.socket))],
		])("%s: known while it is frozen, and let go", async (_what, act) => {
			const host = await startJob();
			await toFrozen(host);
			await act();
			const report = await host.report();
			expect(report).toMatchObject({ achieved: "none", error: { code: "script-hold-lost" } });
			await expectWritable();
		});

		test("the server is killed: lost, and it recovers", async () => {
			const host = await startJob();
			await toFrozen(host);
			const stopped = server.stop("SIGKILL");
			const report = await takeSnapshot(host, [disk]).catch(() => host.report());
			expect(report.achieved).not.toBe("application");
			expect(report.scripts).toMatchObject([{ held: false }]);
			await stopped;
			await server.start();
			await expectWritable();
		});

		test("the server is stopped: it can't prove its hold, and writes when it goes on", async () => {
			const host = await startJob(2_000);
			await toFrozen(host);
			process.kill(server.pid(), "SIGSTOP");
			const report = await takeSnapshot(host, [disk]);
			process.kill(server.pid(), "SIGCONT");
			expect(report.achieved).not.toBe("application");
			expect(report.scripts).toMatchObject([
				{ held: false, outputTail: expect.stringMatching(/lost .*answer within 2000 ms/) },
			]);
			await expectWritable();
		});
	});

	describe("before the window nothing is frozen:", () => {
		test("a server that is stopped is waited for no longer than the limit", async () => {
			process.kill(server.pid(), "SIGSTOP");
			await using waiting = hold("--lock-timeout-ms", "1000");
			expect(await waiting.ended).toBe(75);
			process.kill(server.pid(), "SIGCONT");
			await expectWritable();
		});

		test("a table that somebody locked for writing: others write while it waits and after it gave up", async () => {
			await using blocker = await server.connection("LOCK TABLES shop.two WRITE");
			await using waiting = hold("--lock-timeout-ms", "3000");
			await poll(() => states()).toContain("Waiting for backup lock");
			await server.query("SET lock_wait_timeout = 1; INSERT INTO shop.one VALUES (1)");
			expect(await waiting.ended).toBe(75);
			expect(waiting.output()).toMatch(/max_statement_time|Lock wait timeout/);
			await server.query("SET lock_wait_timeout = 1; INSERT INTO shop.one VALUES (1)");
			await blocker[Symbol.asyncDispose]();
			await expectWritable();
		});

		test("a query and a transaction that run long, and an ALTER TABLE that waits for one, do not matter", async () => {
			await server.query("CREATE TABLE shop.rows (id INT PRIMARY KEY); INSERT INTO shop.rows VALUES (1)");
			await using transaction = await server.connection("BEGIN; UPDATE shop.rows SET id = 2");
			const query = server.query("SELECT SLEEP(60) FROM shop.rows").catch((error: Error) => error.message);
			const change = server.query("ALTER TABLE shop.rows ADD COLUMN note INT");
			await poll(() => states()).toEqual(expect.arrayContaining(["User sleep", "Waiting for table metadata lock"]));
			await using held = hold();
			expect(await held.line()).toBe("ready");
			expect(await states()).toEqual(expect.arrayContaining(["User sleep", "Waiting for table metadata lock"]));
			expect(await held.release()).toBe("held");
			const [[id] = []] = await server.query(
				"SELECT id FROM information_schema.processlist WHERE state = 'User sleep'",
			);
			await server.query(`KILL QUERY ${id}`);
			await transaction[Symbol.asyncDispose]();
			expect(await query).toContain("interrupted");
			await change;
			expect(await server.query("SELECT id, note FROM shop.rows")).toEqual([["1", "NULL"]]);
		});

		test("a server that was read_only is held, and stays so", async () => {
			await server.query("SET GLOBAL read_only = 1");
			await using held = hold();
			expect(await held.line()).toBe("ready");
			expect(await held.release()).toBe("held");
			expect(await held.ended).toBe(0);
			expect(await server.query("SELECT @@read_only")).toEqual([["1"]]);
			await server.query("SET GLOBAL read_only = 0");
		});

		test("a dry run tells what is missing, and takes nothing", async () => {
			await using tried = hold("--dry-run");
			expect(await tried.ended).toBe(0);
			expect(tried.output()).toBe("");
			await using blind = startHoldScript(program, ["--socket", server.socket, "--dry-run"], {
				input: { fileSystems: [] },
			});
			expect(await blind.ended).toBe(78);
			expect(blind.output()).toContain("datadir");
			await expectWritable();
		});

		test("a user without rights, at its limit of connections, or with a wrong password is told so, without the password", async () => {
			await server.query(
				`CREATE USER poor@localhost IDENTIFIED BY '${password}';
				CREATE USER busy@localhost IDENTIFIED BY '${password}' WITH MAX_USER_CONNECTIONS 1;
				CREATE USER good@localhost IDENTIFIED BY '${password}'; GRANT RELOAD ON *.* TO busy@localhost, good@localhost`,
			);
			const file = async (user: string, word = password) => {
				const path = join(bench.dir, `${user}-${word.length}.cnf`);
				await writeFile(path, `[client]\nuser=${user}\npassword=${word}\nsocket=${server.socket}\n`, { mode: 0o600 });
				return path;
			};
			await using busy = startHoldScript(program, ["--credentials", await file("busy")], { input: {} });
			expect(await busy.line()).toBe("ready");
			for (const [path, status, words] of [
				[await file("poor"), 77, "GRANT RELOAD"],
				[await file("busy"), 75, "max_user_connections"],
				[await file("good", `${password}-no`), 77, "Access denied"],
			] as const) {
				await using refused = startHoldScript(program, ["--credentials", path, "--dry-run"], { input: {} });
				expect(await refused.ended).toBe(status);
				expect(refused.output()).toContain(words);
				expect(refused.output()).not.toContain(password);
			}
			expect(await busy.release()).toBe("held");
			await using good = startHoldScript(program, ["--credentials", await file("good")], { input: {} });
			expect(await good.line()).toBe("ready");
			expect(await readCommandLines()).not.toContain(password);
			expect(await good.release()).toBe("held");
		});

		test("a table whose file lies elsewhere is named", async () => {
			const elsewhere = join(bench.one.mountPoint, "tables");
			await mkdir(elsewhere);
			await server.query(`CREATE TABLE shop.far (id INT) DATA DIRECTORY = '${elsewhere}'`);
			await using tried = startHoldScript(program, ["--socket", server.socket, "--dry-run"], {
				input: { fileSystems: [{ mountPoint: disk.mountPoint, superblock: await superblockOf(disk) }] },
			});
			expect(await tried.ended).toBe(78);
			expect(tried.output()).toContain(`${elsewhere}/shop`);
			await server.query("DROP TABLE shop.far");
			await rm(elsewhere, { recursive: true });
		});

		test("what the server's user put into its folder is neither waited for, nor read, nor missed", async () => {
			const input = { fileSystems: [{ mountPoint: disk.mountPoint, superblock: await superblockOf(disk) }] };
			const tell = async () => {
				await using tried = startHoldScript(program, ["--socket", server.socket, "--dry-run"], { input });
				await tried.ended;
				return tried.output();
			};
			const table = join(server.dataFolder, "shop/evil.isl");
			await execa("mkfifo", [table]);
			expect(await tell()).toContain("evil.isl does not tell");
			await writeFile(join(bench.dir, "secret"), password);
			await rm(table);
			await symlink(join(bench.dir, "secret"), table);
			expect(await tell()).toMatch(/is not in the snapshot/);
			expect(await tell()).not.toContain(password);
			await rm(table);
			await writeFile(table, `${password}\n/x`);
			expect(await tell()).toMatch(/evil.isl does not tell/);
			await rm(table);
			expect(await tell()).toBe("");
			const linked = join(disk.mountPoint, "linked");
			await mkdir(linked);
			await symlink(linked, join(server.dataFolder, "linked"));
			await symlink(bench.one.mountPoint, join(linked, "far"));
			expect(await tell()).toContain(`table or database ${bench.one.mountPoint}`);
			await rm(join(server.dataFolder, "linked"));
		});

		test("another folder than the server's is refused, and so is a server that is down, or was killed", async () => {
			await using other = hold("--data-folder", bench.dir);
			expect(await other.ended).toBe(78);
			expect(other.output()).toContain("no server process of this machine works in");
			await server.stop();
			await using down = hold();
			expect(await down.ended).toBe(69);
			await server.start();
			await server.stop("SIGKILL");
			// Its socket is still there, as while it recovers; nobody answers.
			await using dead = hold();
			expect(await dead.ended).toBe(69);
			await server.start();
			await expectWritable();
		});
	});

	function hold(...args: string[]) {
		return startHoldScript(program, ["--socket", server.socket, "--lock-timeout-ms", "20000", ...args], { input: {} });
	}

	async function startJob(limitMs = 20_000) {
		const command = [`SCRIPTS/${program}`, "--socket", server.socket, "--lock-timeout-ms", String(limitMs)];
		const scriptsFolder = await scripts.configure({ shop: { application: "shop", session: { command } } });
		return await bench.start([disk], { level: "application", holdLimitMs: 20_000 }, { request: { scriptsFolder } });
	}

	async function expectWritable(): Promise<void> {
		await poll(() => isWritable(disk)).toBe(true);
		await server.query("SET lock_wait_timeout = 5; INSERT INTO shop.one VALUES (1)");
		await poll(() => findConnections()).toEqual([]);
	}

	async function states(): Promise<string[]> {
		return (await server.query("SELECT state FROM information_schema.processlist WHERE state <> ''")).flat();
	}

	/** Those that hold: nobody else is idle. */
	async function findConnections(): Promise<string[]> {
		const idle = "SELECT id FROM information_schema.processlist WHERE command = 'Sleep' AND db IS NULL";
		return (await server.query(idle)).flat();
	}

	/** The only process besides the server that has the word on its command line. */
	async function findProcess(word: string): Promise<number> {
		const found: number[] = [];
		for (const pid of (await readdir("/proc")).filter((one) => /^\d+$/.test(one)).map(Number)) {
			const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
			if (pid !== server.pid() && commandLine.split("\0").includes(word)) found.push(pid);
		}
		expect(found).toHaveLength(1);
		return found[0] as number;
	}

	async function findConnection(): Promise<string> {
		let found: string[] = [];
		await poll(async () => {
			found = await findConnections();
			return found.length;
		}).toBe(1);
		return found[0] ?? "";
	}
});

function kill(pid: number): void {
	process.kill(pid, "SIGKILL");
}

async function readCommandLines(): Promise<string> {
	const pids = (await readdir("/proc")).filter((one) => /^\d+$/.test(one));
	const files = pids.flatMap((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`]);
	return (await Promise.all(files.map((path) => readFile(path, "utf8").catch(() => "")))).join("\n");
}

async function superblockOf({ mountPoint }: LoopFileSystem): Promise<string> {
	const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n").map((line) => line.split(" "));
	return lines.find((words) => words[4] === mountPoint)?.[2] ?? "";
}
