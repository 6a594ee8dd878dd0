import { chmod, mkdtemp, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { startHoldScript } from "../test/fixtures/hold-script.ts";
import { freeze, makeLoopFileSystem, startGuard, thaw } from "../test/fixtures/loop-file-system.ts";
import { type Spread, spreadOf } from "./figures.ts";
import { type StallDatabase, startMariadb, startPostgresql } from "./stall-databases.ts";

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

/** What two clients that write without a pause feel: each database on a clean ext4, frozen for 100 ms. */
export async function measureDatabaseStalls(rounds: number, signal: AbortSignal): Promise<DatabaseStall[]> {
	await using undo = new AsyncDisposableStack();
	const dir = await mkdtemp("/var/lib/stillpoint-bench-");
	undo.defer(() => rm(dir, { recursive: true, force: true }));
	await chmod(dir, 0o711);
	undo.use(startGuard({ dir, limitMs: 15 * 60_000, remove: [dir] }));
	const rows: DatabaseStall[] = [];
	for (const [name, start] of Object.entries({ postgresql: startPostgresql, mariadb: startMariadb })) {
		await using disk = await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 512, name });
		await using database = await start(disk.mountPoint);
		rows.push(...(await measureOne(database, disk.mountPoint, rounds, signal)));
	}
	return rows;
}

async function measureOne(
	{ database, script, scriptArgs, writers }: StallDatabase,
	mountPoint: string,
	rounds: number,
	signal: AbortSignal,
): Promise<DatabaseStall[]> {
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
	return ways.map((what) => ({ database, what, rounds, longestStallMs: spreadOf(stalls.get(what) ?? []) }));

	async function oneRound(what: (typeof ways)[number]): Promise<void> {
		await using hold = what.includes("hold") ? startHoldScript(script, scriptArgs) : undefined;
		if ((await hold?.line()) === undefined && hold !== undefined) throw new Error(hold.output());
		if (what.includes("freeze")) await freeze(mountPoint);
		await sleep(frozenMs);
		if (what.includes("freeze")) await thaw(mountPoint);
		if (hold !== undefined && (await hold.release()) !== "held") throw new Error(hold.output());
	}
}
