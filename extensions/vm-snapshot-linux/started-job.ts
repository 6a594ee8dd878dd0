import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../contracts/errors.ts";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import { type FreezeCalls, loadFreezeCalls } from "../../platform/linux/freeze-calls.ts";
import { type Freezer, startFreezer, threadsFor } from "../../platform/linux/freezer/freezer-client.ts";
import { removeLedger } from "../../platform/linux/freezer/ledger-file.ts";
import type { Clock } from "./clock.ts";
import { JobRecord } from "./job-record.ts";
import { openWindowLog, type WindowLog } from "./window-log.ts";

/** What takes long to start, started as soon as the request is known and in parallel with all else. */
export type StartedJob = AsyncDisposable & {
	readonly clock: Clock;
	readonly record: JobRecord;
	readonly windowLog: WindowLog;
	readonly calls: Promise<FreezeCalls>;
	/** Absent when the order freezes nothing. */
	readonly freezer: Freezer | undefined;
};

/** The freezer starts before it is known how many file systems there are; with more it freezes in turns. */
const expectedFileSystems = 48;
const endLimitMs = 2_000;

/** @throws `state-unusable` when the run folder can't be used. */
export function startJob(request: SnapshotRequest, clock: Clock): StartedJob {
	const { runFolder, order } = request;
	const record = new JobRecord(request, clock);
	const windowLog = prepareRunFolder(runFolder, order.jobId);
	const calls = loadFreezeCalls();
	calls.catch(() => undefined);
	const stop = new AbortController();
	const freezer =
		order.level === "crash"
			? undefined
			: startFreezer({
					threads: threadsFor(expectedFileSystems),
					runDir: runFolder,
					signal: stop.signal,
					onEvent(event) {
						record.answers.note(event);
						windowLog.write({ atMs: clock.nowMs(), freezer: event });
					},
				});
	return {
		clock,
		record,
		windowLog,
		calls,
		freezer,
		async [Symbol.asyncDispose]() {
			stop.abort();
			if (freezer !== undefined) {
				await endFreezer(freezer);
				// A freezer that was killed may have left the ledger of what is not, or no more, frozen.
				const nothingFrozen = record.freezingAtMs === undefined || record.thawedAt !== undefined;
				if (nothingFrozen) removeLedger(freezer.ledgerPath(order.jobId));
			}
			windowLog[Symbol.dispose]();
		},
	};
}

function prepareRunFolder(runFolder: string, jobId: string): WindowLog {
	try {
		for (const name of ["freezes", "reports"]) mkdirSync(join(runFolder, name), { recursive: true, mode: 0o700 });
		return openWindowLog(runFolder, jobId);
	} catch (cause) {
		throw new StillpointError("state-unusable", `${runFolder}: ${(cause as Error).message}`, { cause });
	}
}

/** Nothing of ours is frozen any more, so it may be ended in any way. */
async function endFreezer(freezer: Freezer): Promise<void> {
	const limit = new AbortController();
	await Promise.race([freezer.exited, sleep(endLimitMs, undefined, { signal: limit.signal }).catch(() => undefined)]);
	limit.abort();
	freezer.kill("SIGKILL");
	await freezer.exited;
}
