/** A disk that answers late, or not at all until it is released. */
import { setTimeout as sleep } from "node:timers/promises";
import { monotonicMs } from "../../fixtures/write-prober.ts";
import { Missed } from "../fault-table/aim.ts";
import { findFreezeCalls } from "./find-point.ts";
import { holdLimitMs, type Scene, type Struck, stallMs } from "./scene.ts";

const slowestMs = 400;
/** House promise 1: after the kernel let go of the last FIFREEZE. */
const afterKernelMs = 100;
/** The write itself, with its sync, on a disk that a server in user space has just begun to serve again. */
const writeMs = 100;
/** A call that was seen for longer is one that the kernel does not let go. */
const inKernelMs = 20;
const letGoLimitMs = 30_000;
const pollMs = 4;
const statusPollMs = 50;
/** The hold's deadline, those of the two who wait behind it, and the second within which it is to be said. */
const untilStuckMs = holdLimitMs + 2_500;

export async function strikeSlowDisk(scene: Scene, fault: "slow" | "stuck"): Promise<Struck> {
	const { slow } = scene.lane.machine;
	if (slow === undefined) throw new Missed("there is no slow disk");
	const delayMs = Math.round(50 + scene.random() * (slowestMs - 50));
	const lastsMs = Math.round(stallMs * (0.5 + scene.random()));
	// What is under way on a frozen disk is answered first.
	await (fault === "slow" ? slow.makeSlow(delayMs) : slow.makeStuck());
	const state = { letGoMs: 0, stuckTold: false };
	const struckMs = monotonicMs();
	const kernel = watchKernel(Object.values(scene.pids));
	return {
		note: fault === "slow" ? `${delayMs} ms a request, for ${lastsMs} ms` : `for ${lastsMs} ms`,
		exempt: [slow.mountPoint],
		mayBeStuck: true,
		async settle() {
			let heldMs = 0;
			for (const endMs = struckMs + lastsMs; monotonicMs() < endMs; await sleep(statusPollMs)) {
				const { job } = await scene.lane.status();
				state.stuckTold ||= job?.phase === "stuck";
				heldMs = kernel.heldMs();
			}
			state.stuckTold ||= heldMs < untilStuckMs + scene.starvedMs();
			await slow.release();
			state.letGoMs = await untilLetGo(kernel);
		},
		async check() {
			const prober = scene.lane.probers.find(({ folder }) => folder === slow.mountPoint);
			const { endedAtMs = 0, tookMs = 0 } = (await prober?.longestMs(state.letGoMs, 10_000)) ?? {};
			const lateMs = Math.min(endedAtMs - state.letGoMs, tookMs);
			return [
				...(state.stuckTold
					? []
					: ["the kernel held a freeze past every deadline, and nobody said that the job is stuck"]),
				...(lateMs <= afterKernelMs + writeMs + scene.starvedMs()
					? []
					: [`the last one could be written ${Math.round(lateMs)} ms after the kernel let go`]),
			];
		},
	};
}

type KernelWatch = {
	/** How long the oldest FIFREEZE or FITHAW that goes on has lasted, as far as it was looked at; 0: there is none. */
	heldMs(): number;
};

function watchKernel(pids: readonly number[]): KernelWatch {
	const since = new Map<string, number>();
	return {
		heldMs() {
			const nowMs = monotonicMs();
			const calls = pids.flatMap((pid) => findFreezeCalls(pid).map(({ thread, command }) => `${thread} ${command}`));
			for (const seen of since.keys()) if (!calls.includes(seen)) since.delete(seen);
			for (const call of calls) if (!since.has(call)) since.set(call, nowMs);
			return nowMs - Math.min(nowMs, ...since.values());
		},
	};
}

/** CLOCK_MONOTONIC in ms: from when on no call lasts. */
async function untilLetGo(kernel: KernelWatch): Promise<number> {
	const endMs = monotonicMs() + letGoLimitMs;
	let heldAtMs = monotonicMs();
	for (let nowMs = heldAtMs; nowMs < endMs; nowMs = monotonicMs()) {
		if (kernel.heldMs() > inKernelMs) heldAtMs = nowMs;
		if (nowMs - heldAtMs > 3 * inKernelMs) return heldAtMs;
		await sleep(pollMs);
	}
	return endMs;
}
