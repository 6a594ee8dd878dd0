import { readdir, readFile } from "node:fs/promises";
import { readProcessTable, withDescendants } from "../platform/linux/process-tree.ts";

export type ProcessUse = {
	readonly residentKiB: number;
	readonly threads: number;
	readonly descriptors: number;
	/** Processes that it started, or that those started, and that are still there. */
	readonly children: number;
	/** On all cores, since it began. */
	readonly cpuMs: number;
	/** What it made the kernel write to disks; tmpfs counts for nothing. */
	readonly diskWriteBytes: number;
};

/** What a process holds and has used, by proc(5). Threads that have ended are missing in `cpuMs`. */
export async function readProcessUse(pid: number): Promise<ProcessUse> {
	const status = await readFile(`/proc/${pid}/status`, "utf8");
	const io = await readFile(`/proc/${pid}/io`, "utf8");
	const tasks = await readdir(`/proc/${pid}/task`);
	const schedstats = await Promise.all(tasks.map((task) => readSchedstat(pid, task)));
	// First field: nanoseconds on a core. proc(5)'s utime and stime would count in steps of 10 ms.
	const cpuMs = schedstats.reduce((sum, text) => sum + Number(text.split(" ")[0] ?? 0) / 1e6, 0);
	// Who runs has run: else the kernel does not count, and an idle agent would look idle whatever it did.
	if (cpuMs === 0) throw new Error("this kernel counts no CPU time in /proc/PID/schedstat");
	return {
		residentKiB: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]),
		threads: tasks.length,
		descriptors: (await readdir(`/proc/${pid}/fd`)).length,
		children: withDescendants([pid], readProcessTable()).length - 1,
		cpuMs,
		diskWriteBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1]),
	};
}

/** Empty when the thread has ended meanwhile. */
async function readSchedstat(pid: number, task: string): Promise<string> {
	return readFile(`/proc/${pid}/task/${task}/schedstat`, "utf8").catch(() => "");
}
