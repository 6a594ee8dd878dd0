import type { DatabaseKind } from "./database-kind.ts";
import { pathIn } from "./database-kind.ts";
import { checkSqlite } from "./sqlite-check.ts";

const magic = Buffer.from("SQLite format 3\0", "latin1");

export const sqlite: DatabaseKind = {
	name: "SQLite",
	tells: (_, head) => head?.subarray(0, magic.length).equals(magic) ?? false,
	find: (sight) =>
		[...sight.heads].filter(([name, head]) => sqlite.tells(name, head)).map(([name]) => pathIn(sight, name)),
	check: (path, { scratchDir, signal }) => checkSqlite(path, scratchDir, signal),
};
