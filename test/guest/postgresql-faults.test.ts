/** What goes wrong around a PostgreSQL server that is held: no label better than the truth, and it takes writes again. */
import { readFileSync } from "node:fs";
import { chmod, copyFile, mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type HoldScript, startHoldScript } from "../fixtures/hold-script.ts";
import { type LoopFileSystem, makeLoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { makeCluster, makeServerFolder, type PostgresqlServer } from "../fixtures/postgresql-cluster.ts";
import { makeShop, startWriters } from "../fixtures/postgresql-writers.ts";
import { processTree } from "../fixtures/process-states.ts";
import { copyProductScripts, type ProductScripts } from "../fixtures/product-scripts.ts";
import { takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";
import type { TestHost } from "../fixtures/snapshot-host.ts";

const { readSuperblock } = await import(join(import.meta.dirname, "../../scripts/kit/covered-folders.mjs"));
const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze", "setpriv", "psql");
const program = "postgresql/postgresql-hold.mjs";

describe.skipIf(missing)(`PostgreSQL that goes wrong${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const stack = new AsyncDisposableStack();
	let scripts: ProductScripts;
	let disk: LoopFileSystem;
	let shop: PostgresqlServer;

	beforeAll(async () => {
		const { dir } = bench;
		// The server's user must get through.
		await chmod(dir, 0o711);
		scripts = await copyProductScripts(dir);
		disk = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 128, name: "shop" }));
		shop = stack.use(await makeCluster(await makeServerFolder(join(disk.mountPoint, "cluster"))));
		await shop.start();
		await makeShop(shop);
	});
	afterAll(() => stack.disposeAsync());

	describe("in the window:", () => {
		test.each([
			["the server is killed", () => process.kill(shop.pid(), "SIGKILL")],
			["its client is killed", (host: TestHost) => process.kill(findProcess(host, "psql"), "SIGKILL")],
			["the script is killed", (host: TestHost) => process.kill(findProcess(host, "postgresql-hold.mjs"), "SIGKILL")],
		])("%s: the hold is lost at once, and the server takes writes again", async (_what, kill) => {
			await using writers = startWriters(shop, 2, nextId());
			await writers.more(5);
			const host = await startJob("fail");
			await toFrozen(host);
			kill(host);
			const report = await host.report();
			expect(report.error?.code).toBe("script-hold-lost");
			expect(report.achieved).toBe("none");
			await writers.stop();
			await takesWritesAgain();
		});

		test("a server that hangs proves nothing: the level is lower, and it goes on when it can", async () => {
			const host = await startJob("continue", "--lock-timeout-ms", "500");
			await toFrozen(host);
			// Nobody else is connected.
			const pid = findChild("[local]");
			process.kill(pid, "SIGSTOP");
			const report = await takeSnapshot(host, [disk]);
			expect(report).toMatchObject({ achieved: "file-system", because: ["script-hold-lost"] });
			process.kill(pid, "SIGCONT");
			await takesWritesAgain();
		});
	});

	test("a server that is down: named, nothing frozen; where it may, the job goes on at file-system", async () => {
		await shop.stop();
		const host = await startJob("continue");
		await toFrozen(host);
		const report = await takeSnapshot(host, [disk]);
		expect(report.achieved).toBe("file-system");
		expect(report.scripts[0]).toMatchObject({ exitCode: 69, error: { code: "script-failed" } });
		expect(report.scripts[0]?.outputTail).toMatch(/connection to server on socket .* failed/);
		await shop.start();
		await takesWritesAgain();
	});

	test("a server that is still recovering is told in its own words", async () => {
		const signal = join(shop.dataFolder, "recovery.signal");
		await shop.query("ALTER SYSTEM SET restore_command = 'sleep 60'");
		await shop.stop();
		await writeFile(signal, "");
		const starting = shop.start().catch(() => undefined);
		await poll(async () => {
			await using tried = startHold(here());
			return `${await tried.ended} ${tried.output()}`;
		}).toMatch(/^69 .*(starting up|not (yet )?accepting connections)/);
		await shop.stop("SIGQUIT");
		await starting;
		await rm(signal);
		await shop.start();
		await shop.query("ALTER SYSTEM RESET restore_command");
		await takesWritesAgain();
	});

	test("queries and locks on tables hinder nothing", async () => {
		const busy = shop.query("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(20);");
		busy.catch(() => undefined);
		await poll(() => shop.query("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'")).toBe("1");
		const host = await startJob("fail", "--lock-timeout-ms", "2000");
		await toFrozen(host);
		expect(await takeSnapshot(host, [disk])).toMatchObject({ achieved: "application", because: [] });
		await shop.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE mode = 'AccessExclusiveLock'");
		await busy.catch(() => undefined);
	});

	test("what was acknowledged without waiting for the log is in the log once it is held; without the hold it is not", async () => {
		for (const isHeld of [false, true]) {
			const id = nextId();
			process.kill(findChild("walwriter"), "SIGSTOP");
			await shop.query(`SET synchronous_commit = off; INSERT INTO orders VALUES (${id})`);
			await using held = startHold([...here(), ...(isHeld ? [] : ["--dry-run"])]);
			expect(await held.line()).toBe(isHeld ? "ready" : undefined);
			// As when the machine loses its power, but for what the kernel has.
			for (const pid of processTree(shop.pid())) process.kill(pid, "SIGKILL");
			await takesWritesAgain();
			expect(await shop.query(`SELECT count(*) FROM orders WHERE id = ${id}`)).toBe(isHeld ? "1" : "0");
		}
	});

	describe("does not wait for ever", () => {
		test("for a lock on the catalogue", async () => {
			const busy = shop.query("BEGIN; LOCK TABLE pg_proc IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(20);");
			busy.catch(() => undefined);
			await poll(() => findChild("SELECT")).toBeGreaterThan(0);
			await expectRefusal(["--lock-timeout-ms", "500"], 75, /timeout|no answer within/);
			process.kill(findChild("SELECT"), "SIGTERM");
			await busy.catch(() => undefined);
			await takesWritesAgain();
		});

		test.each([
			["a server that accepts and says nothing", () => shop.pid(), /timeout|no answer within/],
			["a checkpoint that does not end", () => findChild("checkpointer"), /statement timeout/],
		])("for %s", async (_what, find, says) => {
			const pid = find();
			process.kill(pid, "SIGSTOP");
			try {
				await expectRefusal(["--lock-timeout-ms", "500", "--checkpoint-limit-ms", "500"], undefined, says);
			} finally {
				process.kill(pid, "SIGCONT");
			}
			await takesWritesAgain();
		});

		test("for a backup that does not end", async () => {
			await using held = startHold([...here(), "--lock-timeout-ms", "500"]);
			expect(await held.line()).toBe("ready");
			const pid = await backendOfHold();
			process.kill(pid, "SIGSTOP");
			expect(await held.release()).toMatch(/^lost .*no answer within 1500 ms/);
			expect(await held.ended).toBe(1);
			process.kill(pid, "SIGCONT");
			await takesWritesAgain();
		});
	});

	describe("is refused, as its copy would lack something:", () => {
		test("a server in a mount namespace of its own, with its log on another disk than it seems here", async () => {
			const own = join(shop.dataFolder, "pg_wal");
			const elsewhere = join(bench.one.mountPoint, "pg_wal");
			await shop.stop();
			await execa("cp", ["-a", own, elsewhere]);
			await shop.start([{ from: elsewhere, to: own }]);
			await expectRefusal([], 78, /the write-ahead log .* is another folder for the server/);
			await shop.stop();
			await execa("cp", ["-a", `${elsewhere}/.`, own]);
			await takesWritesAgain();
			await using held = startHold(here());
			expect(await held.line()).toBe("ready");
		});

		test("one of whose databases lies elsewhere by a link", async () => {
			const oid = await shop.query("SELECT oid FROM pg_database WHERE datname = 'template1'");
			const [own, elsewhere] = [join(shop.dataFolder, "base", oid), join(bench.one.mountPoint, "database")];
			await shop.stop();
			await execa("cp", ["-a", own, elsewhere]);
			await rename(own, `${own}.own`);
			await symlink(elsewhere, own);
			await shop.start();
			const superblock = readSuperblock(disk.mountPoint);
			const input = { fileSystems: [{ mountPoint: disk.mountPoint, superblock }] };
			await using refused = startHold(here(), input);
			expect(await refused.ended).toBe(78);
			expect(refused.output()).toContain(`base/${oid} (${own}) is not in the snapshot`);
			await shop.stop();
			await rm(own);
			await rename(`${own}.own`, own);
			await takesWritesAgain();
			await using held = startHold(here(), input);
			expect(await held.line()).toBe("ready");
		});
	});

	test("a data folder that another took the place of is a hold that was lost", async () => {
		await using held = startHold(here());
		expect(await held.line()).toBe("ready");
		const moved = `${shop.dataFolder}-moved`;
		await rename(shop.dataFolder, moved);
		await mkdir(join(shop.dataFolder, "global"), { recursive: true });
		await copyFile(join(moved, "global/pg_control"), join(shop.dataFolder, "global/pg_control"));
		expect(await held.release()).toMatch(/^lost .* was replaced by another folder/);
		await rm(shop.dataFolder, { recursive: true });
		await rename(moved, shop.dataFolder);
		await takesWritesAgain();
	});

	let ids = 0;
	function nextId(): number {
		ids += 100_000_000;
		return ids;
	}

	function here(): string[] {
		return ["--socket", shop.socketFolder];
	}

	async function startJob(onFailure: "fail" | "continue", ...args: string[]): Promise<TestHost> {
		const command = [`SCRIPTS/${program}`, ...here(), ...args];
		const scriptsFolder = await scripts.configure({
			shop: { application: "shop", onFailure, session: { command, deadlineMs: 30_000 } },
		});
		return await bench.start([disk], { level: "application", holdLimitMs: 30_000 }, { request: { scriptsFolder } });
	}

	/** And no backup is left in it. */
	async function takesWritesAgain(): Promise<void> {
		await poll(async () => {
			await shop.start().catch(() => undefined);
			return await shop
				.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stillpoint'")
				.catch(String);
		}).toBe("0");
		const id = nextId();
		expect(await shop.query(`INSERT INTO orders VALUES (${id}) RETURNING id`)).toBe(String(id));
	}

	async function expectRefusal(args: string[], status: number | undefined, says: RegExp): Promise<string> {
		await using refused = startHold([...here(), ...args]);
		expect(await refused.line()).toBeUndefined();
		const exit = await refused.ended;
		if (status === undefined) expect([69, 75]).toContain(exit);
		else expect(exit).toBe(status);
		expect(refused.output()).toMatch(says);
		expect(refused.output()).not.toContain("    at ");
		return refused.output();
	}

	async function backendOfHold(): Promise<number> {
		const question = "SELECT max(pid) FROM pg_stat_activity WHERE application_name = 'stillpoint'";
		await poll(() => shop.query(question)).not.toBe("");
		return Number(await shop.query(question));
	}

	function findChild(title: string): number {
		const found = processTree(shop.pid()).find((pid) => readTitle(pid).includes(title));
		if (found === undefined) throw new Error(`the server has no process ${title}`);
		return found;
	}
});

/** Told the facts of a job, as a person's hold would wait for them first. */
function startHold(args: readonly string[], input = {}): HoldScript {
	return startHoldScript(program, args, { input });
}

/** Of the job: the last whose command line has the words. Never 0, which would be our own process group. */
function findProcess(host: TestHost, ...words: string[]): number {
	const all = processTree(host.process.pid ?? 0).map((pid) => ({ pid, title: readTitle(pid) }));
	const found = all.findLast(({ title }) => words.every((word) => title.includes(word)));
	if (found === undefined) throw new Error(`no process ${words.join(" ")} in ${JSON.stringify(all)}`);
	return found.pid;
}

function readTitle(pid: number): string {
	try {
		return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
	} catch {
		return "";
	}
}
