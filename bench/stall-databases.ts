/** Servers whose clients' stalls are measured: each on a disk of its own, with its shipped script and two writers. */
import { join } from "node:path";
import { makeDataFolders, openMariadb } from "../test/fixtures/mariadb-server.ts";
import { makeShop as makeMariadbShop, startWriters as startMariadbWriters } from "../test/fixtures/mariadb-shop.ts";
import { makeCluster, makeServerFolder } from "../test/fixtures/postgresql-cluster.ts";
import { makeShop, startWriters } from "../test/fixtures/postgresql-writers.ts";

export type StallDatabase = AsyncDisposable & {
	/** Name and version. */
	readonly database: string;
	/** Below scripts/. */
	readonly script: string;
	readonly scriptArgs: readonly string[];
	readonly writers: {
		/** Until so many more transactions are acknowledged. */
		more(count: number): Promise<void>;
		/** Of one client, of the answers that came within. */
		longestStallMs(fromMs: number, toMs: number): number;
	};
};

const writerCount = 2;

export async function startPostgresql(mountPoint: string): Promise<StallDatabase> {
	await using undo = new AsyncDisposableStack();
	const settings = ["shared_buffers=128MB", "max_wal_size=256MB"];
	const server = undo.use(await makeCluster(await makeServerFolder(join(mountPoint, "cluster")), { settings }));
	await server.start();
	await makeShop(server);
	const writers = undo.use(startWriters(server, writerCount));
	const version = (await server.query("SHOW server_version")).split(" ")[0];
	const owned = undo.move();
	return {
		database: `PostgreSQL ${version}`,
		script: "postgresql/postgresql-hold.mjs",
		scriptArgs: ["--socket", server.socketFolder],
		writers,
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

export async function startMariadb(mountPoint: string): Promise<StallDatabase> {
	await using undo = new AsyncDisposableStack();
	const folder = join(mountPoint, "data");
	await makeDataFolders(folder);
	const server = undo.use(await openMariadb(folder, ["--log-bin=binlog"]));
	await server.start();
	await makeMariadbShop(server);
	const writers = undo.use(startMariadbWriters(server, writerCount));
	const [[version] = []] = await server.query("SELECT VERSION()");
	const owned = undo.move();
	return {
		database: `MariaDB ${version?.split("-")[0]}`,
		script: "mariadb/mariadb-hold.mjs",
		scriptArgs: ["--socket", server.socket],
		writers,
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}
