import { setTimeout as sleep } from "node:timers/promises";
import { type BenchAgent, type Form, startBenchAgent } from "./bench-agent.ts";
import { round } from "./figures.ts";
import { type ProcessUse, readProcessUse } from "./process-use.ts";
import { makeBenchFolders } from "./scratch-folders.ts";

export type Idle = {
	form: Form;
	link: "none" | "connected";
	seconds: number;
	residentMiB: number;
	cpuPercentOfCore: number;
	diskWriteBytes: number;
	descriptors: number;
	threads: number;
	children: number;
	/** CPU below 0.1 % of a core, and no byte written to a disk. */
	goal: "met" | "MISSED";
};

const cpuGoalPercent = 0.1;
const settleMs = 10_000;
const kinds = [
	["bundled", false],
	["bundled", true],
	["unbundled", false],
] as const;

/** What agents that nobody asks anything cost, all at the same time: memory after settling, CPU and disk writes. */
export async function measureIdle(seconds: number, signal: AbortSignal): Promise<Idle[]> {
	await using undo = new AsyncDisposableStack();
	const agents: BenchAgent[] = [];
	for (const [form, linked] of kinds) {
		const folders = undo.use(await makeBenchFolders((seconds + 600) * 1000));
		agents.push(undo.use(await startBenchAgent({ form, linked, folders, mountPoints: [folders.images], signal })));
	}
	await sleep(settleMs, undefined, { signal });
	const read = () => Promise.all(agents.map(({ program }) => readProcessUse(program.pid)));
	const [fromMs, before] = [performance.now(), await read()];
	await sleep(seconds * 1000, undefined, { signal });
	const [untilMs, after] = [performance.now(), await read()];
	return kinds.map(([form, linked], index) => {
		const used = after[index] as ProcessUse;
		const since = before[index] as ProcessUse;
		const cpuPercentOfCore = ((used.cpuMs - since.cpuMs) / (untilMs - fromMs)) * 100;
		const diskWriteBytes = used.diskWriteBytes - since.diskWriteBytes;
		return {
			form,
			link: linked ? "connected" : "none",
			seconds,
			residentMiB: round(used.residentKiB / 1024),
			cpuPercentOfCore: Number(cpuPercentOfCore.toFixed(3)),
			diskWriteBytes,
			descriptors: used.descriptors,
			threads: used.threads,
			children: used.children,
			goal: cpuPercentOfCore < cpuGoalPercent && diskWriteBytes === 0 ? "met" : "MISSED",
		};
	});
}
