/** Runs rounds on several machines side by side: most of a round is waiting. */
import { globSync } from "node:fs";
import { totalmem } from "node:os";
import { dirname } from "node:path";
import type { Lane } from "../fault-table/lane.ts";
import { checkStored } from "./check-round.ts";
import { startHeartbeat } from "./heartbeat.ts";
import { watchRcu } from "./rcu-watch.ts";
import { type RoundOutcome, runRound } from "./run-round.ts";
import type { SweepMachine } from "./scene.ts";
import type { Round } from "./schedule.ts";
import { openSweepLane } from "./sweep-lane.ts";

export type SweepOptions = {
	readonly rounds: readonly Round[];
	readonly lanes: number;
	/** No further round begins. */
	readonly signal: AbortSignal;
	/** Of a round that was missed, too, which is not tried again here. */
	onOutcome(round: Round, outcome: RoundOutcome): void;
};

/** Returns what is wrong beside the rounds' own faults. */
export async function runSweep({ rounds, lanes, signal, onOutcome }: SweepOptions): Promise<string[]> {
	using heartbeat = startHeartbeat();
	const open = new Set<Lane<SweepMachine>>();
	using rcu = watchRcu(() => [...[...open].map(({ folders }) => folders.flags.runDir), ...findOtherRunDirs()]);
	const blocks = [...Map.groupBy(rounds, ({ block }) => block).values()];
	const faults: string[] = [];

	async function work(): Promise<void> {
		for (let block = blocks.shift(); block !== undefined && !signal.aborted; block = blocks.shift()) {
			await runBlock(block).catch((error: unknown) => {
				const first = block[0]?.index ?? 0;
				faults.push(`rounds from ${first} on: ${error instanceof Error ? error.stack : String(error)}`);
			});
		}
	}

	async function runBlock(block: readonly Round[]): Promise<void> {
		const waiting = [...block];
		while (waiting.length > 0 && !signal.aborted) {
			await using undo = new AsyncDisposableStack();
			// What is made of disks, servers and processes may fail once on a busy machine; it is no fault of the product.
			const openLane = () => openSweepLane(waiting[0] as Round);
			const lane = undo.use(await openLane().catch(openLane));
			open.add(lane);
			undo.defer(() => void open.delete(lane));
			for (let spoilt = false; !spoilt && waiting.length > 0 && !signal.aborted; ) {
				const round = waiting.shift() as Round;
				const outcome = await runRound(lane, round, heartbeat);
				onOutcome(round, outcome);
				// What a fault of ours left would be taken for the next round's.
				spoilt = outcome.spoils || outcome.faults.length > 0;
				if (spoilt) await lane.machine.thaw();
			}
			faults.push(...(await checkStored(lane)).map((fault) => `rounds of block ${block[0]?.block}: ${fault}`));
		}
	}

	await Promise.all(Array.from({ length: Math.min(lanes, blocks.length) }, work));
	return [...faults, ...rcu.faults];
}

/** Of other tests that freeze on this machine now: the switch may be theirs. */
function findOtherRunDirs(): string[] {
	return globSync("/dev/shm/stillpoint-*/{,*/}freezes").map(dirname);
}

/** A lane needs a processor for a third of its time, and 700 MB. */
export function countLanes(processors: number): number {
	return Math.max(1, Math.min(processors * 3, Math.floor(totalmem() / 700_000_000)));
}
