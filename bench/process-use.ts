import { readdir, readFile } from "node:fs/promises";

export type ProcessUse = {
	readonly residentKiB: number;
	readonly threads: number;
	readonly descriptors: number;
	/** Processes that it started and that are still there. */
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
	const cpu = await Promise.all(tasks.map((task) => readTask(pid, task, "schedstat")));
	const children = await Promise.all(tasks.map((task) => readTask(pid, task, "children")));
	return {
		residentKiB: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]),
		threads: tasks.length,
		descriptors: (await readdir(`/proc/${pid}/fd`)).length,
		children: children.join(" ").split(/\s+/).filter(Boolean).length,
		// First field: nanoseconds on a core. proc(5)'s utime and stime would count in steps of 10 ms.
		cpuMs: cpu.reduce((sum, text) => sum + Number(text.split(" ")[0] ?? 0) / 1e6, 0),
		diskWriteBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1]),
	};
}

/** Empty when the thread has ended meanwhile, or the kernel keeps no such file. */
async function readTask(pid: number, task: string, name: string): Promise<string> {
	return readFile(`/proc/${pid}/task/${task}/${name}`, "utf8").catch(() => "");
}
