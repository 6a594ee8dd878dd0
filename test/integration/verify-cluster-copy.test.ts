/** The copy of a PostgreSQL cluster that is checked, made of a few files that stand for one. */
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { resolveInGuest } from "../../controller/verify/databases/guest-path.ts";
import { copyCluster } from "../../controller/verify/databases/postgresql-copy.ts";

let dir = "";
let next = 0;
const files = ["PG_VERSION", "base/5/1259", "global/pg_control", "pg_wal/000000010000000000000001"];
const version = "space/PG_15_202209061";

beforeAll(async () => {
	dir = await mkdtemp(join(tmpdir(), "stillpoint-cluster-copy-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** As a guest has it below /srv, with a tablespace. @param linked what is moved away, and a link left in its place */
async function copyWith(...linked: string[]) {
	next += 1;
	const root = join(dir, String(next));
	const scratch = join(dir, `${next}-scratch`);
	await mkdir(scratch);
	for (const name of [...files.map((file) => join("data", file)), join(version, "5/1259")]) {
		await mkdir(dirname(join(root, name)), { recursive: true });
		await writeFile(join(root, name), "x");
	}
	await mkdir(join(root, "data/pg_tblspc"));
	await symlink("/srv/space", join(root, "data/pg_tblspc/777"));
	await mkdir(join(root, "moved"));
	for (const [index, name] of linked.entries()) {
		await rename(join(root, name), join(root, "moved", String(index))).catch(() => undefined);
		await mkdir(dirname(join(root, name)), { recursive: true });
		await symlink(`/srv/moved/${index}`, join(root, name));
	}
	return await copyCluster(Buffer.from(join(root, "data")), scratch, "15", {
		scratchDir: scratch,
		startServers: true,
		programsPrefix: "/usr",
		limitMs: 10_000,
		follow: (target, from) => resolveInGuest(target, from, { root, mountPoint: "/srv", otherMountPoints: ["/"] }),
		signal: AbortSignal.timeout(60_000),
	});
}

test.concurrent.each([
	["data/base/5", "base/5"],
	["data/base/5/1259", "base/5/1259"],
	["data/base", "base"],
	["data/pg_xact", "pg_xact"],
	["data/backup_label", "backup_label"],
	["data/standby.signal", "standby.signal"],
	["data/pg_wal/000000010000000000000001", "pg_wal/000000010000000000000001"],
	[`${version}/5`, "pg_tblspc/777/5"],
	[version, "pg_tblspc/777/PG_15_202209061"],
])("%s behind a link, which is not followed, is named and makes all of it unknown", async (linked, name) => {
	const detail = `${name} lies elsewhere by a link, and is not copied`;
	expect(await copyWith(linked)).toEqual({ status: "unknown", detail });
});

test.concurrent("links to WAL are followed, and those to what no recovery reads left out", async () => {
	const bytes = files.length + 1;
	const nothing = { bytes, endsRecovery: false, fromBackup: false, slots: 0 };
	expect(await copyWith()).toEqual(nothing);
	expect(await copyWith("data/pg_wal")).toEqual(nothing);
	const unread = ["log", "pg_log", "server.crt", "pg_hba.conf", "postgresql.conf", "pg_stat_tmp", "base/pgsql_tmp"];
	const linked = [...unread, "pg_wal/archive_status", "base/5/pgsql_tmp"].map((name) => join("data", name));
	expect(await copyWith(...linked)).toEqual(nothing);
});
