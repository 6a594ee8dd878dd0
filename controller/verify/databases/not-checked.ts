import type { DatabaseKind, FolderSight } from "./database-kind.ts";
import { pathIn } from "./database-kind.ts";
import { isDataFolder } from "./mariadb.ts";

/** Databases that are found and named, because nothing of this host can say whether they are sound. */
function makeUncheckedKind(
	name: string,
	tells: DatabaseKind["tells"],
	find: (sight: FolderSight) => Buffer[],
	why: string,
): DatabaseKind {
	return { name, tells, find, check: async () => ({ status: "unknown", detail: `${name}: ${why}` }) };
}

/** Since 8.0 MySQL keeps its dictionary in mysql.ibd, and MariaDB can't read that. */
export const mysql = makeUncheckedKind(
	"MySQL",
	(name) => ["ibdata1", "mysql", "mysql.ibd", "auto.cnf", "aria_log_control"].includes(name),
	(sight) => (isDataFolder(sight) && !sight.heads.has("aria_log_control") ? [sight.path] : []),
	"there is no check for it here; start a copy with its own server",
);

export const mongodb = makeUncheckedKind(
	"MongoDB (WiredTiger)",
	(name) => ["WiredTiger", "WiredTiger.wt"].includes(name),
	(sight) => (sight.heads.has("WiredTiger") && sight.heads.has("WiredTiger.wt") ? [sight.path] : []),
	"there is no check for it here; start a copy with mongod --dbpath and run validate",
);

/** Block 0 of Oracle's control files: block type 0xc2 and, at byte 28, the mark of all of its files. */
function isControlFile(head: Buffer | undefined): boolean {
	return head !== undefined && head[1] === 0xc2 && head.toString("latin1", 28, 32) === "}|{z";
}

export const oracle = makeUncheckedKind(
	"Oracle",
	(_, head) => isControlFile(head),
	(sight) => [...sight.heads].filter(([, head]) => isControlFile(head)).map(([name]) => pathIn(sight, name)),
	"there is no check for it here; open a copy with its own server",
);
