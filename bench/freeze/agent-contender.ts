import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { freezerEventSchema } from "../../contracts/freezer-protocol.ts";
import { type HeldOnce, holdOnce, monotonicMs } from "../hold-once.ts";
import type { Contender } from "./contender.ts";
import { windowOf } from "./freezer-events.ts";

/** The whole path: an order by the local call, plan, write probes, syncs, the freeze with the agent's default settings, report. */
export function agentContender(runFolder: string, disks: readonly string[]): Contender {
	return {
		name: "agent",
		isExpedited: true,
		async run(mayFreeze, signal) {
			let waitedMs = Number.NaN;
			const held = await holdOnce({
				runFolder,
				disks,
				signal,
				async mayFreeze() {
					const preparedAtMs = monotonicMs();
					await mayFreeze();
					waitedMs = monotonicMs() - preparedAtMs;
				},
			});
			const { frozen, own } = windowOf(await readWindowLog(runFolder, held.jobId));
			return {
				frozen,
				job: { fromMs: held.orderedAtMs, untilMs: held.reportedAtMs },
				own: { ...own, ...reportedOf(held), ...stepsOf(held, frozen.fromMs, waitedMs) },
			};
		},
	};
}

function reportedOf({ report }: HeldOnce) {
	const { stallMs = Number.NaN, predictedStallMs = Number.NaN } = report.window;
	return { stallMs, predictedStallMs };
}

/** Where the time of the job goes, without the wait that the measurement put into it. */
function stepsOf({ orderedAtMs, phases, reportedAtMs, report }: HeldOnce, freezingAtMs: number, waitedMs: number) {
	const at = (wanted: string) => phases.find(({ phase }) => phase === wanted)?.atMs ?? Number.NaN;
	return {
		startMs: at("planning") - orderedAtMs,
		planMs: at("preparing") - at("planning"),
		prepareMs: at("prepared") - at("preparing"),
		releaseToFreezeMs: freezingAtMs - at("prepared") - waitedMs,
		afterThawMs: reportedAtMs - at("thawing"),
		slowestSyncMs: Math.max(0, ...report.fileSystems.map(({ syncMs = 0 }) => syncMs)),
	};
}

async function readWindowLog(runFolder: string, jobId: string) {
	const text = await readFile(join(runFolder, `window-${jobId}.jsonl`), "utf8");
	return text
		.trimEnd()
		.split("\n")
		.flatMap((line) => {
			const { freezer } = JSON.parse(line) as { freezer?: unknown };
			return freezer === undefined ? [] : [freezerEventSchema.parse(freezer)];
		});
}
