import { chmod, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startHoldScript } from "../test/fixtures/hold-script.ts";
import { freeze, makeLoopFileSystem, startGuard, thaw } from "../test/fixtures/loop-file-system.ts";
import { makeCluster, makeServerFolder } from "../test/fixtures/postgresql-cluster.ts";
import { makeShop, startWriters } from "../test/fixtures/postgresql-writers.ts";
import { type Spread, spreadOf } from "./figures.ts";

export type DatabaseStall = {
	database: string;
	what: "nothing" | "hold" | "freeze" | "hold and freeze";
	rounds: number;
	/** Of one client: the longest that a COMMIT kept it waiting in a round. */
	longestStallMs: Spread;
};

const ways = ["nothing", "hold", "freeze", "hold and freeze"] as const;
/** Within which a round's longest stall is looked for; between rounds the kernel forgets the last freeze. */
const pauseMs = 1_000;
const frozenMs = 100;

/** What two clients that write without a pause feel: PostgreSQL on a clean ext4, frozen for 100 ms. */
export async function measureDatabaseStall(rounds: number, signal: AbortSignal): Promise<DatabaseStall[]> {
	await using undo = new AsyncDisposableStack();
	const dir = await mkdtemp("/var/lib/stillpoint-bench-");
	undo.defer(() => rm(dir, { recursive: true, force: true }));
	await chmod(dir, 0o711);
	undo.use(startGuard({ dir, limitMs: 15 * 60_000, remove: [dir] }));
	const disk = undo.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 512, name: "database" }));
	const settings = ["shared_buffers=128MB", "max_wal_size=256MB"];
	const server = undo.use(await makeCluster(await makeServerFolder(join(disk.mountPoint, "cluster")), { settings }));
	await server.start();
	await makeShop(server);
	const writers = undo.use(startWriters(server, 2));
	await writers.more(500);
	const stalls = new Map<string, number[]>(ways.map((what) => [what, []]));
	for (let round = 0; round < rounds; round += 1) {
		for (const what of ways.toSorted(() => Math.random() - 0.5)) {
			await sleep(pauseMs, undefined, { signal });
			const fromMs = performance.now();
			await oneRound(what);
			await writers.more(10);
			stalls.get(what)?.push(writers.longestStallMs(fromMs, performance.now()));
		}
	}
	const version = await server.query("SHOW server_version");
	return ways.map((what) => ({
		database: `PostgreSQL ${version.split(" ")[0]}`,
		what,
		rounds,
		longestStallMs: spreadOf(stalls.get(what) ?? []),
	}));

	async function oneRound(what: (typeof ways)[number]): Promise<void> {
		const args = ["--socket", server.socketFolder];
		await using hold = what.includes("hold") ? startHoldScript("postgresql/postgresql-hold.mjs", args) : undefined;
		if ((await hold?.line()) === undefined && hold !== undefined) throw new Error(hold.output());
		if (what.includes("freeze")) await freeze(disk.mountPoint);
		await sleep(frozenMs);
		if (what.includes("freeze")) await thaw(disk.mountPoint);
		if (hold !== undefined && (await hold.release()) !== "held") throw new Error(hold.output());
	}
}
