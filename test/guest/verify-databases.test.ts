/** Copies of real databases, good, damaged and hostile, as they would lie in an image: folders, and one whole image. */
import { access, appendFile, chmod, cp, mkdir, mkdtemp, open, readdir, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DatabaseKind, DatabaseWork } from "../../controller/verify/databases/database-kind.ts";
import { resolveInGuest } from "../../controller/verify/databases/guest-path.ts";
import { mariadb } from "../../controller/verify/databases/mariadb.ts";
import { postgresql } from "../../controller/verify/databases/postgresql.ts";
import { requireTools } from "../fixtures/loop-file-system.ts";
import type { CrashedDatabase } from "../fixtures/crashed-databases.ts";
import { crashMariadb, crashPostgresql } from "../fixtures/crashed-databases.ts";

const undo = new AsyncDisposableStack();
let dir = "";
let scratchDir = "";
let next = 0;

beforeAll(async () => {
	if (requireTools("root")) return;
	dir = await mkdtemp("/var/lib/stillpoint-test-databases-");
	await chmod(dir, 0o711);
	undo.defer(() => rm(dir, { recursive: true, force: true }));
	scratchDir = join(dir, "scratch");
	await mkdir(scratchDir);
});
afterAll(() => undo.disposeAsync());

/** A copy to spoil. */
async function copyOf({ folder }: CrashedDatabase): Promise<string> {
	next += 1;
	const to = join(dir, `copy-${next}`, "data");
	await mkdir(join(to, ".."));
	await execa("cp", ["--archive", folder, to]);
	return to;
}

async function check(kind: DatabaseKind, folder: string, changes: Partial<DatabaseWork> = {}) {
	const view = { root: join(folder, ".."), mountPoint: "/srv", otherMountPoints: ["/"] };
	const verdict = await kind.check(Buffer.from(folder), {
		scratchDir,
		startServers: true,
		programsPrefix: "/usr",
		limitMs: 60_000,
		follow: (target, from) => resolveInGuest(target, from, view),
		signal: AbortSignal.timeout(100_000),
		...changes,
	});
	return `${verdict.status}: ${verdict.detail}`;
}

async function spoil(path: string, atBytes: number, length: number): Promise<void> {
	await using file = await open(path, "r+");
	await file.write(Buffer.alloc(length, 0x5a), 0, length, atBytes);
}

const exists = (path: string) =>
	access(path).then(
		() => true,
		() => false,
	);
/** A page of it, after its header. */
const pageBytes = 8192;

const noPostgresql = requireTools("root", "psql");
describe.skipIf(noPostgresql)(noPostgresql ? `PostgreSQL: ${noPostgresql}` : "PostgreSQL", () => {
	let crashed: CrashedDatabase;
	beforeAll(async () => {
		crashed = await crashPostgresql(dir);
	}, 60_000);

	test("a cluster as a crash leaves it passes", async () => {
		expect(await check(postgresql, await copyOf(crashed))).toMatch(
			/^pass: PostgreSQL 15, in production, .*recovery ran, pg_amcheck finds nothing in 2 databases, all checksums/,
		);
	});
});

const noMariadb = requireTools("root", "mariadbd", "mariadb");
describe.skipIf(noMariadb)(noMariadb ? `MariaDB: ${noMariadb}` : "MariaDB", () => {
	let crashed: CrashedDatabase;
	beforeAll(async () => {
		crashed = await crashMariadb(dir);
	}, 60_000);

	test("a data folder as a crash leaves it passes", async () => {
		expect(await check(mariadb, await copyOf(crashed))).toMatch(/^pass: MariaDB 10.*recovery ran, CHECK TABLE/);
	});
});
