import { lstat, mkdir, readdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Verdict } from "../found-file-system.ts";
import { copyTree } from "./copy-tree.ts";
import type { DatabaseWork } from "./database-kind.ts";

export type ClusterCopy = {
	bytes: number;
	/** It had WAL from elsewhere to come: a standby, or a recovery to a point in time. */
	endsRecovery: boolean;
	/** `backup_label` lies in it: recovery begins at a backup's checkpoint. */
	fromBackup: boolean;
	slots: number;
};

/**
 * Configuration that the guest wrote is not obeyed: postgresql.auto.conf is read whatever else is said. The rest of
 * these would be in the way of a server that is started elsewhere: see docs/verification.md.
 */
const leftOut = [
	"postgresql.conf",
	"postgresql.auto.conf",
	"pg_hba.conf",
	"pg_ident.conf",
	"conf.d",
	"postmaster.pid",
	"postmaster.opts",
	"tablespace_map",
	"recovery.conf",
] as const;

/**
 * Copies a cluster to FOLDER/cluster, with its WAL and its tablespaces where links lead to these, as it would lie after
 * a restore. A standby becomes one that ends its recovery: its primary is not here.
 */
export async function copyCluster(
	path: Buffer,
	folder: string,
	major: string,
	work: DatabaseWork,
): Promise<ClusterCopy | Verdict> {
	const cluster = join(folder, "cluster");
	const copied = await copyTree(path, cluster, work.signal);
	if ("status" in copied) return copied;
	let { bytes } = copied;
	const own = copied.links.find(({ name }) => isMissed(name));
	if (own) return liesElsewhere(own.name);
	for (const { name, target } of copied.links) {
		const tablespace = /^pg_tblspc\/(\d+)$/.exec(name)?.[1];
		if (!isFollowed(name)) continue;
		const what = tablespace === undefined ? "its WAL" : `tablespace ${tablespace}`;
		const inFolder = tablespace === undefined ? path : Buffer.concat([path, Buffer.from("/pg_tblspc")]);
		const followed = await work.follow(target, inFolder);
		if ("elsewhere" in followed)
			return { status: "unknown", detail: `${what} is not in this file system: ${followed.elsewhere}` };
		const part =
			tablespace === undefined
				? await copyTree(followed.path, join(cluster, "pg_wal"), work.signal)
				: await copyTablespace(followed.path, folder, tablespace, major, work.signal);
		if ("status" in part) return { ...part, detail: `${what}: ${part.detail}` };
		const inside = part.links.map((link) => join(name, link.name)).find((one) => isMissed(one));
		if (inside !== undefined) return liesElsewhere(inside);
		bytes += part.bytes;
	}
	const has = new Set((await readdir(cluster)).filter((name) => name.endsWith(".signal") || name === "backup_label"));
	const endsRecovery = has.has("standby.signal") || has.has("recovery.signal");
	for (const name of [...leftOut, "standby.signal", "recovery.signal"]) {
		await rm(join(cluster, name), { recursive: true, force: true });
	}
	if (endsRecovery) await writeFile(join(cluster, "recovery.signal"), "");
	const slots = await readdir(join(cluster, "pg_replslot")).catch(() => []);
	return { bytes, endsRecovery, fromBackup: has.has("backup_label"), slots: slots.length };
}

function isFollowed(name: string): boolean {
	return name === "pg_wal" || /^pg_tblspc\/\d+$/.test(name);
}

/** What recovery and the check read; not logs, configuration, keys, and what a server makes anew when it starts. */
function isMissed(name: string): boolean {
	const isStorage = /^(base|global|pg_\w+|backup_label|\w+\.signal)(\/|$)/.test(name);
	const isMadeAnew = /^(pg_log|pg_stat_tmp|pg_wal\/(archive_status|summaries))(\/|$)|\/pgsql_tmp(\/|$)/.test(name);
	return isStorage && !isMadeAnew && !isFollowed(name);
}

function liesElsewhere(name: string): Verdict {
	return { status: "unknown", detail: `${name} lies elsewhere by a link, and is not copied` };
}

/** Only the folder of this version, as a link of our own making: a tablespace may lie in any folder of the guest. */
async function copyTablespace(from: Buffer, folder: string, oid: string, major: string, signal: AbortSignal) {
	const names = await readdir(from).catch(() => []);
	const own = names.find((name) => name.startsWith(`PG_${major}_`));
	const to = join(folder, "tablespaces", oid);
	await mkdir(to, { recursive: true, mode: 0o700 });
	await symlink(`/copy/tablespaces/${oid}`, join(folder, "cluster/pg_tblspc", oid));
	if (own === undefined) return { bytes: 0, links: [] };
	const source = Buffer.concat([from, Buffer.from(`/${own}`)]);
	if ((await lstat(source)).isSymbolicLink()) return { bytes: 0, links: [{ name: own }] };
	const part = join(folder, "part");
	const copied = await copyTree(source, part, signal);
	if (!("status" in copied)) await rename(part, join(to, own));
	return copied;
}
