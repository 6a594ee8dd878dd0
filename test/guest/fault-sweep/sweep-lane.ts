import { globSync, writeFileSync } from "node:fs";
import type { AgentFoldersFixture } from "../../fixtures/agent-process.ts";
import { type Lane, openLane } from "../fault-table/lane.ts";
import type { SweepMachine } from "./scene.ts";
import type { Round } from "./schedule.ts";
import { clockFile } from "./strike-links.ts";
import { openSweepMachine } from "./sweep-machine.ts";

const limitMs = 900_000;

/** A machine of the round's kind. */
export function openSweepLane({ variant, block }: Pick<Round, "variant" | "block">): Promise<Lane<SweepMachine>> {
	const clock = variant.clock ? { agentEnvironment: fakedClock, extensionEnvironment: fakedClock } : {};
	return openLane({
		openMachine: (dir) => openSweepMachine(variant.shape, dir, block),
		limitMs,
		relay: true,
		guard: true,
		writers: true,
		database: variant.database,
		...clock,
	});
}

/** libfaketime: a wall clock that is off by what the file says, at each look anew. The monotonic clock stays. */
function fakedClock(folders: AgentFoldersFixture): Record<string, string> {
	const offset = clockFile(folders);
	writeFileSync(offset, "+0d");
	return {
		LD_PRELOAD: globSync("/usr/lib/*/faketime/libfaketime.so.1")[0] ?? "",
		FAKETIME_TIMESTAMP_FILE: offset,
		FAKETIME_NO_CACHE: "1",
		FAKETIME_DONT_FAKE_MONOTONIC: "1",
	};
}
