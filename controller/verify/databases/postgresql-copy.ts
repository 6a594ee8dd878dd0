import { mkdir, readdir, rename, rm, symlink, writeFile } from "node:fs/promises";
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
	for (const { name, target } of copied.links) {
		const tablespace = /^pg_tblspc\/(\d+)$/.exec(name)?.[1];
		if (tablespace === undefined && name !== "pg_wal") continue;
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

/** Only the folder of this version, as a link of our own making: a tablespace may lie in any folder of the guest. */
async function copyTablespace(from: Buffer, folder: string, oid: string, major: string, signal: AbortSignal) {
	const names = await readdir(from).catch(() => []);
	const own = names.find((name) => name.startsWith(`PG_${major}_`));
	const to = join(folder, "tablespaces", oid);
	await mkdir(to, { recursive: true, mode: 0o700 });
	await symlink(`/copy/tablespaces/${oid}`, join(folder, "cluster/pg_tblspc", oid));
	if (own === undefined) return { bytes: 0 };
	const part = join(folder, "part");
	const copied = await copyTree(Buffer.concat([from, Buffer.from(`/${own}`)]), part, signal);
	if (!("status" in copied)) await rename(part, join(to, own));
	return copied;
}
