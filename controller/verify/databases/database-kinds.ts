import type { DatabaseKind } from "./database-kind.ts";
import { mariadb } from "./mariadb.ts";
import { mongodb, mysql, oracle } from "./not-checked.ts";
import { postgresql } from "./postgresql.ts";
import { redisAppendOnly, redisDump } from "./redis.ts";
import { sqlite } from "./sqlite.ts";

export const databaseKinds: readonly DatabaseKind[] = [
	sqlite,
	postgresql,
	mariadb,
	mysql,
	redisDump,
	redisAppendOnly,
	mongodb,
	oracle,
];
