import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export type FoundProcess = { readonly pid: number; readonly commandLine: string };

/**
 * Processes that inherited the mark (`NAME=value`) in their environment, or work in the folder, wherever they went.
 * @param known ids that are not looked at. Synchronous, as /proc answers from memory: it is looked at often.
 */
export function findProcesses(mark: string, folder: string, known: ReadonlySet<string> = new Set()): FoundProcess[] {
	const found: FoundProcess[] = [];
	for (const name of readdirSync("/proc")) {
		if (!/^\d+$/.test(name) || name === String(process.pid) || known.has(name)) continue;
		try {
			const environment = readFileSync(`/proc/${name}/environ`, "latin1");
			// Threads of the kernel, and zombies.
			if (environment === "") continue;
			if (!environment.includes(mark) && !`${readlinkSync(`/proc/${name}/cwd`)}/`.startsWith(`${folder}/`)) continue;
			const commandLine = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ").trim();
			found.push({ pid: Number(name), commandLine });
		} catch {
			// It has ended, or is another's.
		}
	}
	return found;
}

/** SIGKILL, again for those that were born meanwhile. Returns those that did not end within the limit. */
export async function endProcesses(mark: string, folder: string, limitMs = 10_000): Promise<FoundProcess[]> {
	const deadline = performance.now() + limitMs;
	for (;;) {
		const left = findProcesses(mark, folder);
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
