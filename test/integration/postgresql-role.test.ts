/** A role that may hold PostgreSQL and nothing more, its credentials, and what others could do to it. */
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type HoldScript, startHoldScript } from "../fixtures/hold-script.ts";
import { makeCluster, makeServerFolder, type PostgresqlServer } from "../fixtures/postgresql-cluster.ts";
import { processTree } from "../fixtures/process-states.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "setpriv", "psql");
const secret = "correct-secret";

describe.skipIf(missing)(`a role of PostgreSQL's own for its hold${missing ? `: ${missing}` : ""}`, () => {
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
		await shop.query(`CREATE ROLE keeper LOGIN PASSWORD '${secret}'`);
		const rules = join(shop.dataFolder, "pg_hba.conf");
		const text = await readFile(rules, "utf8");
		await writeFile(rules, `local all keeper scram-sha-256\nlocal all stranger reject\n${text}`);
		await shop.query("SELECT pg_reload_conf()");
	});
	afterAll(() => stack.disposeAsync());

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
		await expectRefusal(["--socket", shop.socketFolder, "--user", "stranger"], 69, /pg_hba.conf rejects/);
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

	let files = 0;
	async function credentials(password: string): Promise<string> {
		const path = join(folder, `service-${++files}`);
		const lines = [`host=${shop.socketFolder}`, "user=keeper", "dbname=postgres", `password=${password}`];
		await writeFile(path, `# of the snapshots\n[stillpoint]\n${lines.join("\n")}\n`, { mode: 0o600 });
		return path;
	}

	async function expectRefusal(args: string[], status: number, says: RegExp): Promise<string> {
		await using refused = startHold(args);
		expect(await refused.line()).toBeUndefined();
		expect(await refused.ended).toBe(status);
		expect(refused.output()).toMatch(says);
		expect(refused.output()).not.toContain("    at ");
		return refused.output();
	}
});

/** Told the facts of a job, as a person's hold would wait for them first. */
function startHold(args: readonly string[]): HoldScript {
	return startHoldScript("postgresql/postgresql-hold.mjs", args, { input: {} });
}
