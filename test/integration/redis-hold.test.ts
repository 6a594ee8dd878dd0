/** A real Redis on tmpfs: what is held, and what goes wrong. With a real job and file systems: test/guest. */

import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type HoldScript, type HoldScriptOptions, startHoldScript } from "../fixtures/hold-script.ts";
import { poll } from "../fixtures/poll.ts";
import { processTree } from "../fixtures/process-states.ts";
import {
	missingKeys,
	type RedisServer,
	type RedisServerOptions,
	startRedis,
	startRedisWriter,
} from "../fixtures/redis-server.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { mountSmall } from "../fixtures/small-mount.ts";

const missing = requireTools("redis-cli", "root");
const aof = ["--appendonly", "yes", "--save", ""];
const rdb = ["--appendonly", "no", "--save", "3600 1"];

describe.skipIf(missing)(`Redis held${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let folder: string;
	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		folder = await mkdtemp("/dev/shm/stillpoint-test-redis-");
		stack.defer(() => rm(folder, { recursive: true, force: true }));
	});
	afterEach(() => stack.disposeAsync());

	async function start(options: Partial<RedisServerOptions> = {}): Promise<RedisServer> {
		return stack.use(await startRedis({ folder: join(folder, "data"), args: aof, ...options }));
	}
	function hold(server: RedisServer, ...args: (string | HoldScriptOptions)[]): HoldScript {
		const words = args.filter((one) => typeof one === "string");
		const options = args.find((one) => typeof one === "object");
		return stack.use(
			startHoldScript("redis/redis-hold.mjs", ["--socket", server.socket, ...words], {
				input: {},
				...options,
			}),
		);
	}
	/** What the kernel has of it, as a snapshot would. Without the folder of its socket. */
	async function copyData(name: string): Promise<void> {
		const filter = (path: string) => !basename(path).startsWith("redis-");
		await cp(join(folder, "data"), join(folder, name), { recursive: true, filter });
	}
	async function isWritable(server: RedisServer): Promise<boolean> {
		const answer = server.ask("SET", "probe", "1");
		return await Promise.race([answer.then((text) => text === "OK"), sleep(400, false)]);
	}

	test.each([
		["append-only file, everysec", aof],
		["RDB", rdb],
	])("%s: writers wait, and a copy of its folder has all that was acknowledged", async (_what, args) => {
		const server = await start({ args });
		const writers = ["a", "b", "c"].map((name) => ({ name, ...startRedisWriter(server.socket, name) }));
		await poll(() => Math.min(...writers.map((one) => one.acknowledged()))).toBeGreaterThan(100);
		await copyData("early");
		const held = hold(server);
		expect(await held.line()).toBe("ready");
		const counts = () => writers.map((one) => one.acknowledged());
		const before = counts();
		await sleep(100);
		expect(counts()).toEqual(before);
		await copyData("copy");
		expect(counts()).toEqual(before);
		expect(await held.release()).toBe("held");
		expect(await held.ended).toBe(0);
		await poll(() => Math.min(...counts().map((count, index) => count - (before[index] ?? 0)))).toBeGreaterThan(10);
		const copy = await start({ folder: join(folder, "copy"), args });
		for (const [index, { name }] of writers.entries())
			expect(await missingKeys(copy, name, before[index] ?? 0)).toEqual([]);
		// The control: without the save the same copy has less.
		if (args === rdb) {
			const early = await start({ folder: join(folder, "early"), args });
			expect(await missingKeys(early, "a", 100)).not.toEqual([]);
		}
		for (const writer of writers) await writer[Symbol.asyncDispose]();
	});

	test("what a slow disk keeps in Redis's own memory is written out first; without the hold it is missing", async () => {
		const lacking = requireTools("strace");
		if (lacking) return;
		const slow = [
			"strace",
			"-f",
			"-qq",
			"-o",
			"/dev/null",
			"-e",
			"trace=fdatasync,fsync",
			"-e",
			"inject=fdatasync,fsync:delay_enter=500000",
		];
		const server = await start({ prefix: slow });
		const writer = stack.use(startRedisWriter(server.socket, "a"));
		const bufferLength = async () =>
			Number(/aof_buffer_length:(\d+)/.exec(await server.ask("INFO", "persistence"))?.[1]);
		await poll(bufferLength).toBeGreaterThan(0);
		const acknowledged = writer.acknowledged();
		await copyData("early");
		const early = await start({ folder: join(folder, "early") });
		const held = hold(server);
		expect(await held.line()).toBe("ready");
		const all = writer.acknowledged();
		await copyData("copy");
		const copy = await start({ folder: join(folder, "copy") });
		expect(await missingKeys(copy, "a", all)).toEqual([]);
		expect(await missingKeys(early, "a", acknowledged)).not.toEqual([]);
	});

	describe("the hold is lost, and writes go on,", () => {
		test("when its client is killed", async () => {
			const [server, held] = await startHeld();
			process.kill(clients(held)[0] ?? 0, "SIGKILL");
			expect(await held.line()).toMatch(/^lost its client died/);
			expect(await held.ended).toBe(1);
			await poll(() => isWritable(server)).toBe(true);
		});

		test("when its client hangs", async () => {
			const [server, held] = await startHeld("--lock-timeout-ms", "1000");
			process.kill(clients(held)[0] ?? 0, "SIGSTOP");
			expect(await held.release()).toMatch(/^lost .*no answer within 1000 ms/);
			expect(await held.ended).toBe(1);
			await poll(() => isWritable(server)).toBe(true);
		});

		test("when somebody ends the pause, also when he begins it again", async () => {
			const [server, held] = await startHeld();
			await server.ask("CLIENT", "UNPAUSE");
			await server.ask("CLIENT", "PAUSE", "5000", "WRITE");
			expect(await held.line()).toMatch(/^lost somebody ended the pause/);
			expect(await held.ended).toBe(1);
			// Ours may have been let go before the other was begun, which then stands.
			await server.ask("CLIENT", "UNPAUSE");
			await poll(() => isWritable(server)).toBe(true);
		});

		test("when its append-only file is switched off", async () => {
			const [server, held] = await startHeld();
			expect(await server.ask("CONFIG", "SET", "appendonly", "no")).toBe("OK");
			expect(await held.release()).toBe("lost aof_enabled was 1, and is 0");
			await poll(() => isWritable(server)).toBe(true);
		});

		test("when it lasts longer than its limit", async () => {
			const [server, held] = await startHeld("--pause-limit-ms", "1500");
			expect(await held.line()).toMatch(/^lost /);
			expect(await held.ended).toBe(1);
			await poll(() => isWritable(server)).toBe(true);
		});

		test("when the script is killed, by the end of the pause", async () => {
			const [server, held] = await startHeld("--pause-limit-ms", "2500");
			held.process.kill("SIGKILL");
			expect(await isWritable(server)).toBe(false);
			await poll(() => isWritable(server)).toBe(true);
		});
	});

	test("a server that is killed in the window is a hold that was lost", async () => {
		const [server, held] = await startHeld();
		server.kill("SIGKILL");
		expect(await held.line()).toMatch(/^lost the connection that watches the pause was lost/);
		expect(await held.ended).not.toBe(0);
	});

	test("the end of stdin and SIGTERM let go at once", async () => {
		const [server, one] = await startHeld();
		expect(await isWritable(server)).toBe(false);
		one.closeInput();
		expect(await one.ended).toBe(0);
		await poll(() => isWritable(server)).toBe(true);
		const other = hold(server);
		expect(await other.line()).toBe("ready");
		other.process.kill("SIGTERM");
		expect(await other.ended).toBe(0);
		await poll(() => isWritable(server)).toBe(true);
	});

	test("the pause is renewed as long as the hold lasts", async () => {
		const [server, held] = await startHeld();
		await poll(() => server.ask("INFO", "commandstats")).toMatch(/client\|pause:calls=[2-9]/);
		expect(await held.release()).toBe("held");
	});

	test("a rewrite of the append-only file is waited for while writers go on", async () => {
		const server = await start();
		await server.ask("MSET", "a", "1", "b", "2");
		// 2.5 s for each of the two keys: longer than a script takes to start on a busy machine.
		await server.ask("CONFIG", "SET", "rdb-key-save-delay", "2500000");
		await server.ask("BGREWRITEAOF");
		const hasty = hold(server, "--save-limit-ms", "100");
		await refused(hasty, 75, "rewriting its append-only file for too long");
		expect(await server.ask("INFO", "commandstats")).not.toContain("pause");
		expect(await hold(server).line()).toBe("ready");
	});

	test("a pause of somebody else is waited for, then left alone", async () => {
		const server = await start();
		await server.ask("CLIENT", "PAUSE", "60000", "WRITE");
		const held = hold(server, "--lock-timeout-ms", "1000");
		expect(await held.ended).toBe(75);
		expect(held.output()).toContain("somebody else pauses its writes");
		expect(await isWritable(server)).toBe(false);
	});

	test("a wrong or missing password is denied, and no password stands in an output or a command line", async () => {
		const server = await start({ password: "correct-secret" });
		const right = await credentials("user = default\npassword = correct-secret\n");
		const wrong = await credentials("password = wrong-secret\n");
		for (const args of [[], ["--credentials", wrong]]) {
			const refused = hold(server, ...args);
			expect(await refused.ended).toBe(77);
			expect(refused.output()).not.toMatch(/secret/);
		}
		await server.ask("ACL", "SETUSER", ...documentedRights());
		const narrow = await credentials("user = stillpoint\npassword = narrow-secret\n");
		const least = hold(server, "--credentials", narrow);
		expect(await least.line()).toBe("ready");
		expect(await least.release()).toBe("held");
		const held = hold(server, "--credentials", right);
		expect(await held.line()).toBe("ready");
		const commandLines = processTree(held.process.pid ?? 0).map((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8"));
		expect(commandLines.length).toBe(3);
		expect(commandLines.join()).not.toMatch(/secret/);
		expect(await held.release()).toBe("held");
		expect(held.output()).not.toMatch(/secret/);
	});

	test("a password is handed to no other user's process, who could read its environment", async () => {
		const server = await start({ password: "correct-secret" });
		const path = await credentials("password = correct-secret\n");
		await refused(hold(server, "--credentials", path, "--os-user", "nobody"), 64, "either --credentials");
	});

	describe("what can't be held is refused in a sentence:", () => {
		test("a cache, a replica, data elsewhere, no server", async () => {
			const cache = await start({ folder: join(folder, "cache"), args: ["--appendonly", "no", "--save", ""] });
			await refused(hold(cache), 78, "a cache");
			const server = await start();
			await refused(hold(server, "--role", "replica"), 78, "is a primary");
			const input = { fileSystems: [{ mountPoint: "/elsewhere", superblock: "0:0" }] };
			await refused(hold(server, { input }), 78, "is not in the snapshot, which holds /elsewhere");
			await refused(startHoldScript("redis/redis-hold.mjs", ["--socket", join(folder, "none")]), 69, "No such file");
			await poll(() => isWritable(server)).toBe(true);
		});

		test("a server that does not work in the folder that is looked at: another machine's has the same names", async () => {
			const [server, other] = await Promise.all([start(), start({ folder: join(folder, "other") })]);
			await refused(hold(server, "--data-folder", join(folder, "other")), 78, "is not this machine's");
			const held = hold(other, "--data-folder", join(folder, "other"));
			expect(await held.line()).toBe("ready");
		});

		test("a disk without space for a save, and the server goes on writing", async () => {
			const mount = stack.use(await mountSmall(join(folder, "data"), 2048));
			const server = await start({ args: rdb, socketFolder: folder });
			await server.ask("SET", "large", "x".repeat(100_000));
			await mount.fill();
			await refused(hold(server), 75, "a save may need");
			await poll(() => isWritable(server)).toBe(true);
			mount.empty();
			const held = hold(server);
			expect(await held.line()).toBe("ready");
			expect(await held.release()).toBe("held");
		});

		test("a save that fails", async () => {
			const server = await start({ args: rdb });
			mkdirSync(join(folder, "data/dump.rdb/in-the-way"), { recursive: true });
			await refused(hold(server), 69, "the save failed");
			expect(await server.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")).toBe("OK");
			await poll(() => isWritable(server)).toBe(true);
		});
	});

	test("a replica stands still, too: what its primary sends waits, and it says that it is one", async () => {
		const primary = await start({ folder: join(folder, "primary"), args: [...aof, "--repl-diskless-sync-delay", "0"] });
		const replica = await start({ folder: join(folder, "replica"), args: ["--port", "0", ...aof] });
		await primary.ask("CONFIG", "SET", "port", String(await freePort()));
		const port = (await primary.ask("CONFIG", "GET", "port")).split("\n")[1] ?? "";
		await replica.ask("REPLICAOF", "127.0.0.1", port);
		await poll(() => replica.ask("INFO", "replication")).toContain("master_link_status:up");
		const held = hold(replica);
		expect(await held.line()).toBe("ready");
		await primary.ask("SET", "later", "1");
		await sleep(200);
		expect(await replica.ask("GET", "later")).toBe("");
		expect(held.output()).toContain("redis-hold: a replica");
		expect(await held.release()).toBe("held");
		await poll(() => replica.ask("GET", "later")).toBe("1");
	});

	test("a dry run holds nothing and saves nothing", async () => {
		const server = await start({ args: rdb });
		await server.ask("SET", "a", "1");
		const tried = hold(server, "--dry-run");
		tried.closeInput();
		expect(await tried.ended).toBe(0);
		expect(tried.output()).toBe("");
		expect(await server.ask("INFO", "persistence")).toMatch(/rdb_changes_since_last_save:1\b/);
		expect(await server.ask("INFO", "commandstats")).not.toContain("pause");
	});

	async function startHeld(...args: string[]): Promise<[RedisServer, HoldScript]> {
		const server = await start();
		const held = hold(server, ...args);
		expect(await held.line()).toBe("ready");
		return [server, held];
	}
	function clients(held: HoldScript): number[] {
		return processTree(held.process.pid ?? 0).slice(1);
	}
	async function refused(held: HoldScript, status: number, says: string): Promise<void> {
		expect(await held.ended).toBe(status);
		expect(held.output()).toContain(says);
		expect(held.output()).not.toContain("    at ");
	}
	async function credentials(text: string): Promise<string> {
		const path = join(folder, `credentials-${text.length}`);
		await writeFile(path, text, { mode: 0o600 });
		return path;
	}
});

/** Of scripts/redis/README.md. */
function documentedRights(): string[] {
	const page = readFileSync(join(import.meta.dirname, "../../scripts/redis/README.md"), "utf8");
	const [, words = ""] = /^ACL SETUSER ([^`]+)/m.exec(page) ?? [];
	return words.replace("PASSWORD", "narrow-secret").trim().split(/\s+/);
}

async function freePort(): Promise<number> {
	const server = createServer().listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address() as AddressInfo;
	server.close();
	return port;
}
