/** A disk that answers late, or not at all until it is released. */
import { setTimeout as sleep } from "node:timers/promises";
import { monotonicMs } from "../../fixtures/write-prober.ts";
import { Missed } from "../fault-table/aim.ts";
import { findFreezeCalls } from "./find-point.ts";
import { type Scene, type Struck, stallMs } from "./scene.ts";

const slowestMs = 400;
/** House promise 1: after the kernel let go of the last FIFREEZE. */
const afterKernelMs = 100;
/** A call that was seen for longer is one that the kernel does not let go. */
const inKernelMs = 20;
const letGoLimitMs = 30_000;
const pollMs = 4;

export async function strikeSlowDisk(scene: Scene, fault: "slow" | "stuck"): Promise<Struck> {
	const { slow } = scene.lane.machine;
	if (slow === undefined) throw new Missed("there is no slow disk");
	const delayMs = Math.round(50 + scene.random() * (slowestMs - 50));
	const lastsMs = Math.round(stallMs * (0.5 + scene.random()));
	// What is under way on a frozen disk is answered first.
	await (fault === "slow" ? slow.makeSlow(delayMs) : slow.makeStuck());
	const state = { letGoMs: 0 };
	return {
		note: fault === "slow" ? `${delayMs} ms a request, for ${lastsMs} ms` : `for ${lastsMs} ms`,
		exempt: [slow.mountPoint],
		mayBeStuck: true,
		async settle() {
			await sleep(lastsMs);
			await slow.release();
			state.letGoMs = await untilLetGo(Object.values(scene.pids));
		},
		async check() {
			const prober = scene.lane.probers.find(({ folder }) => folder === slow.mountPoint);
			const { endedAtMs = 0, tookMs = 0 } = (await prober?.longestMs(state.letGoMs, 10_000)) ?? {};
			const lateMs = Math.min(endedAtMs - state.letGoMs, tookMs);
			return lateMs <= afterKernelMs + scene.starvedMs()
				? []
				: [`the last one could be written ${Math.round(lateMs)} ms after the kernel let go`];
		},
	};
}

/** CLOCK_MONOTONIC in ms: from when on none of the processes is in a FIFREEZE or FITHAW that lasts. */
async function untilLetGo(pids: readonly number[]): Promise<number> {
	const since = new Map<string, number>();
	const endMs = monotonicMs() + letGoLimitMs;
	for (let quietSinceMs = monotonicMs(); monotonicMs() < endMs; await sleep(pollMs)) {
		const nowMs = monotonicMs();
		const calls = pids.flatMap((pid) => findFreezeCalls(pid).map(({ thread, command }) => `${thread} ${command}`));
		for (const seen of since.keys()) if (!calls.includes(seen)) since.delete(seen);
		for (const call of calls) if (!since.has(call)) since.set(call, nowMs);
		const lasting = [...since.values()].some((firstMs) => nowMs - firstMs > inKernelMs);
		if (lasting || (since.size > 0 && nowMs - quietSinceMs < inKernelMs)) quietSinceMs = nowMs;
		if (nowMs - quietSinceMs > 2 * inKernelMs) return quietSinceMs;
	}
	return monotonicMs();
}
