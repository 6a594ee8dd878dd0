import { readFile } from "node:fs/promises";

/** A UUID that the kernel makes at each boot. */
export async function readBootId(): Promise<string> {
	return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}
