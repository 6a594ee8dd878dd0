/** With a stand-in for mongosh that answers as documented: no real MongoDB server was had. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeClientFolder } from "../fixtures/fake-client.ts";
import { type HoldScript, startHoldScript } from "../fixtures/hold-script.ts";

const { readSuperblock } = await import(join(import.meta.dirname, "../../scripts/kit/covered-folders.mjs"));

let stack: AsyncDisposableStack;
let folder: string;
let data: string;
let state: { serverStatus: Record<string, unknown>; hello: object; options: object } & Record<string, unknown>;
beforeEach(() => {
	stack = new AsyncDisposableStack();
	folder = mkdtempSync("/dev/shm/stillpoint-test-mongodb-");
	stack.defer(() => rmSync(folder, { recursive: true, force: true }));
	data = join(folder, "data");
	mkdirSync(data);
	writeFileSync(join(data, "mongod.lock"), "4711\n");
	state = {
		serverStatus: {
			ok: 1,
			version: "7.0.14",
			process: "mongod",
			pid: 4711,
			uptimeMillis: 1_000_000_000,
			storageEngine: { name: "wiredTiger", persistent: true },
		},
		hello: { ok: 1, isWritablePrimary: true },
		options: { ok: 1, parsed: { storage: { dbPath: data } } },
	};
	write({});
});
afterEach(() => stack.disposeAsync());

/** What the server answers from now on. */
function write(changes: Record<string, unknown>): void {
	state = { ...state, ...changes };
	writeFileSync(join(folder, "state.json"), JSON.stringify(state));
}
function server(changes: Record<string, unknown>): void {
	write({ serverStatus: { ...state.serverStatus, ...changes } });
}
function hold(...args: (string | { input: object })[]): HoldScript {
	const clients = makeClientFolder(folder, "mongosh", "fake-mongosh.mjs");
	const words = ["--client-folder", clients, ...args.filter((one) => typeof one === "string")];
	const { input } = args.find((one) => typeof one === "object") ?? { input: {} };
	return stack.use(startHoldScript("mongodb/mongodb-hold.mjs", words, { input }));
}
async function refused(status: number, says: string): Promise<void> {
	const held = hold("--role", "primary");
	expect(await held.ended).toBe(status);
	expect(held.output()).toContain(says);
}
const calls = () => readFileSync(join(folder, "state.json.calls"), "utf8");

test("it flushes without a lock, is ready, and proves that the server ran on", async () => {
	const held = hold();
	expect(await held.line()).toBe("ready");
	expect(calls()).toContain('{"fsync":1}');
	expect(calls()).not.toMatch(/lock/i);
	server({ uptimeMillis: 1_000_060_000 });
	expect(await held.release()).toBe("held");
	expect(await held.ended).toBe(0);
});

test.each([
	["was started anew as the same process id", () => server({ uptimeMillis: 5 }), "started anew"],
	["stepped down", () => write({ hello: { ok: 1, secondary: true, setName: "rs0" } }), "role was standalone"],
	["is gone", () => write({ connectError: "connect ECONNREFUSED" }), "ECONNREFUSED"],
])("a server that %s is a hold that was lost", async (_what, change, says) => {
	const held = hold();
	expect(await held.line()).toBe("ready");
	server({ uptimeMillis: 1_000_060_000 });
	change();
	expect(await held.release()).toMatch(new RegExp(`^lost .*${says}`));
	expect(await held.ended).toBe(1);
});

test.each([
	["a router", () => server({ process: "mongos" }), 78, "a router"],
	["another engine", () => server({ storageEngine: { name: "inMemory", persistent: false } }), 78, "inMemory"],
	[
		"no journal",
		() => write({ options: { ok: 1, parsed: { storage: { dbPath: data, journal: { enabled: false } } } } }),
		78,
		"journal is off",
	],
	["an old version", () => server({ version: "4.2.24" }), 78, "needs 4.4"],
	["a secondary", () => write({ hello: { ok: 1, secondary: true, setName: "rs0" } }), 78, "--role is primary"],
	["a member in recovery", () => write({ hello: { ok: 1, setName: "rs0" } }), 75, "neither primary nor secondary"],
	["the folder of another server", () => server({ pid: 4712 }), 78, "mongod.lock"],
	[
		"no answer to a command",
		() => write({ fsync: { ok: 0, errmsg: "not authorized on admin" } }),
		77,
		"not authorized",
	],
])("%s is refused by name", async (_what, change, status, says) => {
	change();
	await refused(status, says);
});

test("a data folder that is not in the snapshot is refused", async () => {
	const held = hold({ input: { fileSystems: [{ mountPoint: "/elsewhere", superblock: "0:0" }] } });
	expect(await held.ended).toBe(78);
	expect(held.output()).toContain(`its data folder (${data}) is not in the snapshot, which holds /elsewhere`);
});

test("a database or its indexes that lie elsewhere by a link are not in the snapshot", async () => {
	mkdirSync(join(data, "shop"));
	for (const entry of ["other", "shop/index"]) {
		symlinkSync("/sys", join(data, entry));
		const input = { fileSystems: [{ mountPoint: "/dev/shm", superblock: readSuperblock("/dev/shm") }] };
		const held = hold({ input });
		expect(await held.ended).toBe(78);
		expect(held.output()).toContain(`${entry} (${join(data, entry)}) is not in the snapshot`);
		rmSync(join(data, entry));
	}
	expect(await hold().line()).toBe("ready");
});

test("a secondary is held and says so, and a shard's member says that it is one of many", async () => {
	write({
		hello: { ok: 1, secondary: true, setName: "rs0" },
		options: { ok: 1, parsed: { storage: { dbPath: data }, sharding: { clusterRole: "shardsvr" } } },
	});
	const held = hold();
	expect(await held.line()).toBe("ready");
	expect(held.output()).toContain("a secondary: the copy is what it had applied");
	expect(held.output()).toContain("part of a sharded cluster");
});

test("no password stands in an output or a command line, and credentials that are refused are denied", async () => {
	const credentials = join(folder, "credentials");
	writeFileSync(credentials, "user = u\npassword = s3cr&t/é\n", { mode: 0o600 });
	const held = hold("--credentials", credentials);
	expect(await held.line()).toBe("ready");
	server({ uptimeMillis: 1_000_060_000 });
	expect(await held.release()).toBe("held");
	write({ connectError: "Authentication failed: URI" });
	const denied = hold("--credentials", credentials);
	expect(await denied.ended).toBe(77);
	for (const text of [held.output(), denied.output(), calls()]) expect(text).not.toMatch(/s3cr/);
});

test("a dry run flushes nothing; a shell that hangs is ended with the session", async () => {
	const tried = hold("--dry-run");
	tried.closeInput();
	expect(await tried.ended).toBe(0);
	expect(calls()).not.toContain("fsync: 1");
	write({ hangs: true });
	const held = hold();
	held.closeInput();
	expect(await held.ended).toBe(0);
});
