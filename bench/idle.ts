import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { type Form, startBenchAgent } from "./bench-agent.ts";
import { round } from "./figures.ts";

export type Idle = {
	form: Form;
	link: "none" | "connected";
	seconds: number;
	residentMiB: number;
	cpuPercentOfCore: number;
	diskWriteBytes: number;
	descriptors: string;
};

/** What an agent that nobody asks anything costs: memory after settling, CPU and disk writes over a while. */
export async function measureIdle(seconds: number, signal: AbortSignal): Promise<Idle[]> {
	const results: Idle[] = [];
	for (const [form, linked] of [
		["bundled", false],
		["bundled", true],
		["unbundled", false],
	] as const) {
		await using agent = await startBenchAgent({ form, linked, signal });
		const { pid } = agent.program;
		await sleep(5_000, undefined, { signal });
		const before = await readUse(pid);
		await sleep(seconds * 1000, undefined, { signal });
		const after = await readUse(pid);
		results.push({
			form,
			link: linked ? "connected" : "none",
			seconds,
			residentMiB: round(after.residentKiB / 1024),
			cpuPercentOfCore: round(((after.cpuTicks - before.cpuTicks) / ticksPerSecond / seconds) * 100),
			diskWriteBytes: after.writeBytes - before.writeBytes,
			descriptors: String(after.descriptors),
		});
	}
	return results;
}

/** USER_HZ of proc(5). */
const ticksPerSecond = 100;

async function readUse(pid: number) {
	const status = await readFile(`/proc/${pid}/status`, "utf8");
	const stat = await readFile(`/proc/${pid}/stat`, "utf8");
	const io = await readFile(`/proc/${pid}/io`, "utf8");
	const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
	return {
		residentKiB: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]),
		cpuTicks: Number(fields[11]) + Number(fields[12]),
		writeBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1]),
		descriptors: (await readdir(`/proc/${pid}/fd`)).length,
	};
}
