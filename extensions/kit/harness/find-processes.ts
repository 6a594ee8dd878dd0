import { readdir, readFile, readlink } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

export type FoundProcess = { readonly pid: number; readonly commandLine: string };

/** Processes that inherited the mark (`NAME=value`) in their environment, or work in the folder, wherever they went. */
export async function findProcesses(mark: string, folder: string): Promise<FoundProcess[]> {
	const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
	const found = await Promise.all(
		pids.map(async (pid): Promise<FoundProcess | undefined> => {
			if (pid === process.pid) return undefined;
			const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
			const work = await readlink(`/proc/${pid}/cwd`).catch(() => "");
			const ours = environment.split("\0").includes(mark) || work === folder || work.startsWith(`${folder}/`);
			if (!ours) return undefined;
			const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
			return { pid, commandLine: commandLine.replaceAll("\0", " ").trim() };
		}),
	);
	return found.filter((one) => one !== undefined);
}

/** SIGKILL, again for those that were born meanwhile. Returns those that did not end within the limit. */
export async function endProcesses(mark: string, folder: string, limitMs = 10_000): Promise<FoundProcess[]> {
	const deadline = performance.now() + limitMs;
	for (;;) {
		const left = await findProcesses(mark, folder);
		if (left.length === 0 || performance.now() >= deadline) return left;
		for (const { pid } of left)
			try {
				process.kill(pid, "SIGKILL");
			} catch {
				// It has ended.
			}
		await sleep(20);
	}
}
