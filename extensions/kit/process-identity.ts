import { readFile } from "node:fs/promises";

/**
 * When a process began, in ticks since the boot: with its id this names one process and no later one. Undefined when it
 * has ended or is a zombie.
 */
export async function findStartTicks(pid: number): Promise<string | undefined> {
	const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
	// The name in parentheses may hold blanks and parentheses itself; fields 3 (state) and 22 (start) follow it.
	const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
	return fields?.[0] === "Z" || fields?.[0] === "X" ? undefined : fields?.[19];
}

export async function readBootId(): Promise<string> {
	return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}
