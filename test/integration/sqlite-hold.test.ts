import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const program = join(import.meta.dirname, "../../scripts/sqlite/sqlite-hold.mjs");
const writerProgram = join(import.meta.dirname, "../fixtures/scripts/writes-sqlite.mjs");
let folder: string;
let path: string;
const running: ChildProcess[] = [];

beforeEach(async () => {
	folder = await mkdtemp(join(tmpdir(), "stillpoint-sqlite-"));
	path = join(folder, "shop.sqlite");
});
afterEach(async () => {
	for (const child of running.splice(0)) child.kill("SIGKILL");
	await rm(folder, { recursive: true, force: true });
});

describe.each(["wal", "delete", "truncate", "persist"])("in journal mode %s", (mode) => {
	test("writers are blocked while it holds, go on afterwards, and the copy has all that was acknowledged", async () => {
		makeDatabase(path, mode);
		const writer = await startWriter(path);
		await writer.atLeast(20);
		const hold = startHold([path]);
		expect(await hold.line()).toBe("ready");
		await sleep(50);
		const before = writer.acknowledged();
		await sleep(300);
		expect(writer.acknowledged()).toBe(before);
		await copyDatabase(path, join(folder, "copy.sqlite"));
		hold.tell("release snapshot\n");
		expect(await hold.line()).toBe("held");
		expect(await hold.ended).toBe(0);
		await writer.atLeast(before + 20);
		expect(writer.failed()).toBe(false);
		await writer.stop();

		const copy = read(join(folder, "copy.sqlite"));
		expect(copy.count).toBeGreaterThanOrEqual(before);
		expect(copy.check).toBe("ok");
		const original = read(path);
		expect(original.count).toBeGreaterThanOrEqual(writer.acknowledged());
		expect(original.check).toBe("ok");
	});

	test("the end of stdin lets go at once", async () => {
		makeDatabase(path, mode);
		const hold = startHold([path]);
		expect(await hold.line()).toBe("ready");
		expect(() => write(path)).toThrow("locked");
		hold.close();
		expect(await hold.ended).toBe(0);
		write(path);
	});

	test("a killed hold leaves nothing locked and nothing changed", async () => {
		makeDatabase(path, mode);
		const before = read(path).count;
		const hold = startHold([path]);
		expect(await hold.line()).toBe("ready");
		hold.kill();
		await hold.ended;
		write(path);
		expect(read(path)).toEqual({ count: before + 1, check: "ok" });
	});
});

describe("a hold that did not hold all along is lost", () => {
	test("when somebody wrote without locks", async () => {
		makeDatabase(path, "delete");
		const hold = startHold([path]);
		expect(await hold.line()).toBe("ready");
		using stranger = new DatabaseSync(`file:${path}?nolock=1`);
		stranger.exec("INSERT INTO sales (note) VALUES ('behind its back')");
		hold.tell("release snapshot\n");
		expect(await hold.line()).toMatch(/^lost .*shop\.sqlite: somebody wrote/);
		expect(await hold.ended).toBe(1);
	});

	test("when its write-ahead log was taken away, and somebody wrote by a new one", async () => {
		makeDatabase(path, "wal");
		const hold = startHold([path]);
		expect(await hold.line()).toBe("ready");
		await rm(`${path}-wal`);
		await rm(`${path}-shm`);
		write(path);
		hold.tell("release snapshot\n");
		expect(await hold.line()).toMatch(/^lost .*replaced/);
		expect(await hold.ended).toBe(1);
	});

	test("when the file was replaced", async () => {
		makeDatabase(path, "wal");
		makeDatabase(join(folder, "other.sqlite"), "wal");
		const hold = startHold([path]);
		expect(await hold.line()).toBe("ready");
		await rename(join(folder, "other.sqlite"), path);
		hold.tell("release snapshot\n");
		expect(await hold.line()).toMatch(/^lost .*replaced/);
		expect(await hold.ended).toBe(1);
	});

	test("when the file is gone", async () => {
		makeDatabase(path, "wal");
		const hold = startHold([path]);
		expect(await hold.line()).toBe("ready");
		await rm(path);
		hold.tell("release no-snapshot\n");
		expect(await hold.line()).toMatch(/^lost .*gone/);
	});
});

describe("several databases", () => {
	test("are held together and let go together", async () => {
		const other = join(folder, "other.sqlite");
		makeDatabase(path, "wal");
		makeDatabase(other, "delete");
		const hold = startHold([path, other]);
		expect(await hold.line()).toBe("ready");
		for (const one of [path, other]) expect(() => write(one)).toThrow("locked");
		hold.tell("release snapshot\n");
		expect(await hold.line()).toBe("held");
		expect(await hold.ended).toBe(0);
		for (const one of [path, other]) write(one);
	});

	test("of which one is missing hold nothing", async () => {
		makeDatabase(path, "wal");
		const hold = startHold([path, join(folder, "none.sqlite")]);
		expect(await hold.ended).toBe(66);
		write(path);
	});
});

describe("what can't be held is refused in a sentence", () => {
	test.each([
		["nothing named", () => [], 64, "usage"],
		["a relative path", () => ["shop.sqlite"], 64, "not an absolute path"],
		["an unknown option", () => ["--force", path], 64, "unknown option"],
		["a bad timeout", () => ["--busy-timeout-ms", "soon", path], 64, "--busy-timeout-ms"],
		["the same file twice", () => [path, path], 64, "the same file"],
		["a missing file", () => [join(folder, "none.sqlite")], 66, "does not exist"],
		["a folder", () => [folder], 66, "not a regular file"],
	])("%s", async (_what, args, status, text) => {
		makeDatabase(path, "wal");
		const hold = startHold(args());
		expect(await hold.ended).toBe(status);
		expect(hold.stderr()).toContain(text);
		expect(hold.stderr()).not.toContain("    at ");
	});

	test("a file that is no database", async () => {
		await writeFile(path, "this is no database, and it is long enough to have a header of its own".repeat(100));
		const hold = startHold([path]);
		expect(await hold.ended).toBe(65);
		expect(hold.stderr()).toContain("not an SQLite database");
	});

	test("a damaged database", async () => {
		makeDatabase(path, "delete");
		const { open } = await import("node:fs/promises");
		await using file = await open(path, "r+");
		await file.write(Buffer.alloc(4096 - 100, 0xff), 0, 4096 - 100, 100);
		await file.close();
		const hold = startHold([path]);
		expect(await hold.ended).toBe(65);
		expect(hold.stderr()).toContain("damaged");
	});

	test("a database that another keeps locked", async () => {
		makeDatabase(path, "delete");
		using other = new DatabaseSync(path);
		other.exec("BEGIN EXCLUSIVE");
		const hold = startHold(["--busy-timeout-ms", "200", path]);
		expect(await hold.ended).toBe(75);
		expect(hold.stderr()).toContain("locked");
	});
});

test("a database outside of the snapshot is refused, one in it is held, also by a link from elsewhere", async () => {
	makeDatabase(path, "delete");
	const link = join(folder, "link.sqlite");
	await symlink(path, link);
	const tmpfs = await mkdtemp("/dev/shm/stillpoint-sqlite-");
	try {
		makeDatabase(join(tmpfs, "other.sqlite"), "wal");
		const inSnapshot = { fileSystems: [{ mountPoint: "/here", superblock: superblockOf(folder) }] };
		const refused = startHold([path, join(tmpfs, "other.sqlite")], inSnapshot);
		expect(await refused.ended).toBe(78);
		expect(refused.stderr()).toContain("other.sqlite) is not in the snapshot, which holds /here");
		write(path);
		const hold = startHold([link], inSnapshot);
		expect(await hold.line()).toBe("ready");
		// What looked for its file system must not have dropped the lock.
		expect(() => write(path)).toThrow("locked");
		hold.tell("release snapshot\n");
		expect(await hold.line()).toBe("held");
	} finally {
		await rm(tmpfs, { recursive: true, force: true });
	}
});

test("a dry run locks nothing, and finds what is missing", async () => {
	makeDatabase(path, "wal");
	const tried = startHold([path, "--dry-run"]);
	tried.close();
	expect(await tried.ended).toBe(0);
	write(path);
	const missing = startHold([join(folder, "none.sqlite"), "--dry-run"]);
	expect(await missing.ended).toBe(66);
});

test("a long reader keeps the log from being emptied, but not the hold", async () => {
	makeDatabase(path, "wal");
	using reader = new DatabaseSync(path);
	reader.exec("BEGIN");
	reader.prepare("SELECT count(*) FROM sales").get();
	write(path);
	const hold = startHold(["--busy-timeout-ms", "200", path]);
	expect(await hold.line()).toBe("ready");
	expect(() => write(path)).toThrow("locked");
	hold.tell("release snapshot\n");
	expect(await hold.line()).toBe("held");
	expect(hold.stderr()).toContain("write-ahead log");
});

function makeDatabase(at: string, mode: string): void {
	using database = new DatabaseSync(at);
	database.exec(`PRAGMA journal_mode=${mode}; CREATE TABLE sales (id INTEGER PRIMARY KEY, note TEXT)`);
	for (let index = 0; index < 10; index += 1) database.exec("INSERT INTO sales (note) VALUES ('first')");
}

/** As the mount table tells it, found by findmnt and not by what is tested. */
function superblockOf(at: string): string {
	return execFileSync("findmnt", ["-n", "-o", "MAJ:MIN", "--target", at]).toString().trim();
}

function write(at: string): void {
	using database = new DatabaseSync(at, { timeout: 100 });
	database.exec("INSERT INTO sales (note) VALUES ('later')");
}

function read(at: string): { count: number; check: string } {
	using database = new DatabaseSync(at);
	const count = database.prepare("SELECT count(*) AS n FROM sales").get()?.["n"];
	const check = database.prepare("PRAGMA integrity_check").get()?.["integrity_check"];
	return { count: Number(count), check: String(check) };
}

/** As a snapshot of the disk would take them, at one instant since nobody can write. */
async function copyDatabase(from: string, to: string): Promise<void> {
	for (const suffix of ["", "-wal", "-journal"]) await copyFile(from + suffix, to + suffix).catch(() => undefined);
}

function startHold(args: string[], input: object = {}) {
	const child = spawn(program, args, {
		stdio: ["pipe", "pipe", "pipe"],
		env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` },
	});
	running.push(child);
	child.stdin.on("error", () => undefined);
	child.stdin.write(`${JSON.stringify(input)}\n`);
	let stderr = "";
	child.stderr.on("data", (chunk: Buffer) => {
		stderr += chunk.toString();
	});
	const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
	return {
		line: async () => (await lines.next()).value,
		tell: (text: string) => child.stdin.write(text),
		close: () => child.stdin.end(),
		kill: () => child.kill("SIGKILL"),
		stderr: () => stderr,
		ended: once(child, "close").then(([status]: unknown[]) => status as number),
	};
}

async function startWriter(at: string) {
	const child = spawn(process.execPath, [writerProgram, at], { stdio: ["pipe", "pipe", "inherit"] });
	running.push(child);
	let acknowledged = 0;
	let ended = false;
	createInterface({ input: child.stdout }).on("line", () => {
		acknowledged += 1;
	});
	const exit = once(child, "exit").then(() => {
		ended = true;
	});
	return {
		acknowledged: () => acknowledged,
		failed: () => ended,
		atLeast: async (count: number) => {
			while (acknowledged < count && !ended) await sleep(5);
		},
		stop: async () => {
			child.stdin.end();
			await exit;
		},
	};
}
