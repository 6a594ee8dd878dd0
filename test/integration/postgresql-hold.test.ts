/** A real PostgreSQL held by hand: by a role of its own, and left as it was. With a real job and file systems: test/guest. */
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type HoldScript, startHoldScript } from "../fixtures/hold-script.ts";
import { poll } from "../fixtures/poll.ts";
import {
	makeCluster,
	makeServerFolder,
	type PostgresqlServer,
	postgresqlProgram,
	runAsPostgres,
} from "../fixtures/postgresql-cluster.ts";
import { processTree } from "../fixtures/process-states.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "setpriv", "psql");
const secret = "correct-secret";

describe.skipIf(missing)(`PostgreSQL held${missing ? `: ${missing}` : ""}`, () => {
	const stack = new AsyncDisposableStack();
	let folder: string;
	let shop: PostgresqlServer;

	beforeAll(async () => {
		folder = await mkdtemp("/dev/shm/stillpoint-test-role-");
		stack.defer(() => rm(folder, { recursive: true, force: true }));
		// The server's user must get through.
		await chmod(folder, 0o711);
		shop = stack.use(await makeCluster(await makeServerFolder(join(folder, "cluster"))));
		await shop.start();
		await shop.query("CREATE TABLE orders (id bigint)");
	});
	afterAll(() => stack.disposeAsync());

	describe("a role of its own", () => {
		beforeAll(async () => {
			await shop.query(`CREATE ROLE keeper LOGIN PASSWORD '${secret}'`);
			const rules = join(shop.dataFolder, "pg_hba.conf");
			const text = await readFile(rules, "utf8");
			await writeFile(rules, `local all keeper scram-sha-256\nlocal all stranger reject\n${text}`);
			await shop.query("SELECT pg_reload_conf()");
		});

		test("that lacks rights is told the statements that give them; these are enough", async () => {
			const args = ["--credentials", await credentials(secret)];
			await using refused = startHold(args);
			expect(await refused.ended).toBe(77);
			const grants = refused.output().match(/GRANT [^;]+;/g) ?? [];
			expect(grants).toHaveLength(3);
			for (const grant of grants) await shop.query(grant);
			await using held = startHold(args);
			expect(await held.line()).toBe("ready");
			const all = processTree(held.process.pid ?? 0);
			const words = await Promise.all(all.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8")));
			expect(all.length).toBe(2);
			expect(words.join()).not.toContain(secret);
			expect(await held.release()).toBe("held");
			expect(await held.ended).toBe(0);
			expect(held.output() + refused.output()).not.toContain(secret);
		});

		test("is harmed by no function and no setting that others made for it", async () => {
			const body = "BEGIN RAISE EXCEPTION 'trapped'; END";
			for (const statement of [
				"CREATE SCHEMA trap",
				"GRANT USAGE ON SCHEMA trap TO keeper",
				`CREATE FUNCTION trap.pg_backend_pid() RETURNS int LANGUAGE plpgsql AS $$${body}$$`,
				"ALTER ROLE keeper SET search_path = trap, pg_catalog",
				"ALTER ROLE keeper SET idle_session_timeout = '300ms'",
			])
				await shop.query(statement);
			await using held = startHold(["--credentials", await credentials(secret)]);
			expect(await held.line()).toBe("ready");
			await sleep(500);
			expect(await held.release()).toBe("held");
		});

		test("with a wrong password, refused by the rules, or once too often: in the server's words", async () => {
			const wrong = await credentials("wrong-secret");
			const output = await expectRefusal(["--credentials", wrong], 69, /password authentication failed/);
			expect(output).not.toContain("wrong-secret");
			await expectRefusal([...here(), "--user", "stranger"], 69, /pg_hba.conf rejects/);
			await shop.query("ALTER ROLE keeper CONNECTION LIMIT 0");
			await expectRefusal(["--credentials", await credentials(secret)], 69, /too many connections/);
		});

		test("that speaks to a pooler, which would keep backup mode when psql ends", async () => {
			const own = join(shop.socketFolder, ".s.PGSQL.5432");
			const pooler = createServer((client) => void client.pipe(connect(own)).pipe(client));
			await once(pooler.listen(join(shop.socketFolder, ".s.PGSQL.6432")), "listening");
			try {
				await shop.query("ALTER ROLE keeper CONNECTION LIMIT -1");
				await expectRefusal(["--credentials", await credentials(secret), "--port", "6432"], 78, /a pooler/);
			} finally {
				pooler.close();
			}
		});

		test("whose file others can read, or that lacks its section, is not used", async () => {
			const open = await credentials(secret);
			await chmod(open, 0o640);
			await expectRefusal(["--credentials", open], 78, /is open to others/);
			const other = join(folder, "other-section");
			await writeFile(other, "[shop]\nuser=keeper\n", { mode: 0o600 });
			await expectRefusal(["--credentials", other], 78, /no section \[stillpoint\]/);
		});
	});

	describe("leaves a server as it was:", () => {
		test("one that is read-only by default stays so", async () => {
			await shop.query("ALTER SYSTEM SET default_transaction_read_only = on");
			await shop.query("SELECT pg_reload_conf()");
			await poll(() => shop.query("SHOW default_transaction_read_only")).toBe("on");
			await using held = startHold(here());
			expect(await held.line()).toBe("ready");
			expect(await held.release()).toBe("held");
			expect(await shop.query("SHOW default_transaction_read_only")).toBe("on");
			await shop.query("ALTER SYSTEM RESET default_transaction_read_only");
			await shop.query("SELECT pg_reload_conf()");
			await poll(() => shop.query("SHOW default_transaction_read_only")).toBe("off");
			await takesWrites();
		});

		test("a dry run starts no backup and no checkpoint", async () => {
			const before = await runAsPostgres("pg_controldata", "-D", shop.dataFolder);
			await using tried = startHold([...here(), "--dry-run"]);
			tried.closeInput();
			expect(await tried.ended).toBe(0);
			expect(tried.output()).toBe("");
			expect(await runAsPostgres("pg_controldata", "-D", shop.dataFolder)).toBe(before);
		});

		test("other backups beside it go on", async () => {
			await using one = startHold(here());
			expect(await one.line()).toBe("ready");
			await using other = startHold(here());
			expect(await other.line()).toBe("ready");
			expect(await one.release()).toBe("held");
			expect(await other.release("no-snapshot")).toBe("held");
		});

		test("what its label says is a backup that was begun and ended, as the write-ahead log has it", async () => {
			await using held = startHold(here());
			expect(await held.line()).toBe("ready");
			const findEnd = async (at: string) => {
				const words = ["-p", join(shop.dataFolder, "pg_wal"), "-r", "XLOG", "-s", at];
				const { stdout } = await execa(postgresqlProgram("pg_waldump"), words, { reject: false });
				return /BACKUP_END (\S+)/.exec(stdout)?.[1];
			};
			const control = await runAsPostgres("pg_controldata", "-D", shop.dataFolder);
			const start = /REDO location: +(\S+)/.exec(control)?.[1] ?? "";
			expect(await findEnd(start)).toBeUndefined();
			expect(await held.release()).toBe("held");
			await held.ended;
			expect(held.output()).toContain(`START WAL LOCATION: ${start} `);
			expect(held.output()).toContain("LABEL: stillpoint\n");
			expect(await findEnd(start)).toBe(start);
		});

		test("the end of stdin and SIGTERM let go at once", async () => {
			for (const end of ["closeInput", "SIGTERM"] as const) {
				await using held = startHold(here());
				expect(await held.line()).toBe("ready");
				if (end === "SIGTERM") held.process.kill(end);
				else held.closeInput();
				expect(await held.ended).toBe(0);
				await takesWrites();
			}
		});

		test("one whose wal_level knows no backup mode is refused", async () => {
			await shop.query("ALTER SYSTEM SET wal_level = minimal");
			await shop.query("ALTER SYSTEM SET max_wal_senders = 0");
			await shop.stop();
			await shop.start();
			await expectRefusal(here(), 78, /wal_level is minimal/);
		});
	});

	let files = 0;
	async function credentials(password: string): Promise<string> {
		const path = join(folder, `service-${++files}`);
		const lines = [`host=${shop.socketFolder}`, "user=keeper", "dbname=postgres", `password=${password}`];
		await writeFile(path, `# of the snapshots\n[stillpoint]\n${lines.join("\n")}\n`, { mode: 0o600 });
		return path;
	}

	function here(): string[] {
		return ["--socket", shop.socketFolder];
	}

	/** And no backup is left in it. */
	async function takesWrites(): Promise<void> {
		await poll(() => shop.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stillpoint'")).toBe(
			"0",
		);
		expect(await shop.query("INSERT INTO orders VALUES (1) RETURNING id")).toBe("1");
	}

	async function expectRefusal(args: string[], status: number, says: RegExp): Promise<string> {
		await using refused = startHold(args);
		expect(await refused.line()).toBeUndefined();
		const exit = await refused.ended;
		expect(refused.output()).toMatch(says);
		expect(exit).toBe(status);
		expect(refused.output()).not.toContain("    at ");
		return refused.output();
	}
});

/** Told the facts of a job, as a person's hold would wait for them first. */
function startHold(args: readonly string[]): HoldScript {
	return startHoldScript("postgresql/postgresql-hold.mjs", args, { input: {} });
}
