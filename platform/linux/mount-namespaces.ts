import { readdir, readlink } from "node:fs/promises";
import { type Mount, readMountTable } from "./mount-table.ts";

/** The mount table of another mount namespace. Its mount points are reached below `/proc/PID/root`. */
export type NamespaceMounts = {
	readonly pid: number;
	/** The text of /proc/PID/ns/mnt, such as `mnt:[4026531841]`. */
	readonly namespace: string;
	readonly mounts: readonly Mount[];
};

/**
 * The mount tables of all mount namespaces but our own, one process for each. Reads procfs only, touches no mount.
 * Processes that end meanwhile or may not be read are skipped. After `signal` what was found so far is returned.
 */
export async function readOtherMountNamespaces(signal?: AbortSignal): Promise<NamespaceMounts[]> {
	const seen = new Set([await readlink("/proc/self/ns/mnt")]);
	const found: NamespaceMounts[] = [];
	for (const entry of await readdir("/proc")) {
		if (signal?.aborted) break;
		if (!/^\d+$/.test(entry)) continue;
		const pid = Number(entry);
		const namespace = await readlink(`/proc/${pid}/ns/mnt`).catch(() => undefined);
		if (namespace === undefined || seen.has(namespace)) continue;
		const mounts = await readMountTable(pid, signal).catch(() => undefined);
		if (mounts === undefined || mounts.length === 0) continue;
		seen.add(namespace);
		found.push({ pid, namespace, mounts });
	}
	return found;
}
