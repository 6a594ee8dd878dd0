import type { FreezerEvent, FreezeTarget } from "../../contracts/freezer-protocol.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { startFreezer, threadsFor } from "../../platform/linux/freezer/freezer-client.ts";
import { monotonicMs } from "../hold-once.ts";
import type { Contender } from "./contender.ts";
import { windowOf } from "./freezer-events.ts";

const limitMs = 10_000;

/** The freezer process alone, told by this one: no plan, no write probe, and no sync before the freeze. */
export function freezerContender(runFolder: string, program: string, targets: readonly FreezeTarget[]): Contender {
	return {
		name: "freezer",
		isExpedited: true,
		async run(mayFreeze, signal) {
			const events: FreezerEvent[] = [];
			const jobId = `bench-${process.hrtime.bigint()}`;
			const startedAtMs = monotonicMs();
			const freezer = startFreezer({
				command: [process.execPath, program],
				threads: threadsFor(targets.length),
				runDir: runFolder,
				onEvent: (event) => events.push(event),
				signal,
			});
			try {
				await freezer.prepare({ jobId, bootId: await readBootId(), targets, limitMs });
				await mayFreeze();
				await freezer.freeze({ holdLimitMs: limitMs, freezeLimitMs: limitMs / 2, expedited: true });
				await freezer.thaw(limitMs);
			} catch (error) {
				freezer.kill("SIGTERM");
				throw error;
			} finally {
				await freezer.exited;
			}
			return { ...windowOf(events), job: { fromMs: startedAtMs, untilMs: monotonicMs() } };
		},
	};
}
