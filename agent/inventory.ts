/** Hardware, operating system, disks and file systems. Some parts start programs, so it is never taken while frozen. */
import { asStillpointError } from "../contracts/errors.ts";
import { readBlockDevices } from "../platform/linux/block-devices.ts";
import { readMachineIdentity } from "../platform/linux/machine-identity.ts";
import { readMountTable } from "../platform/linux/mount-table.ts";
import { within } from "../platform/within.ts";

const partLimitMs = 5_000;

/**
 * Each part on its own, with a deadline: one that fails is named in `failed` with its reason, and the others stand.
 * Mounts are read from the kernel's table and never touched: a dead network mount would hang.
 */
export async function takeInventory(signal: AbortSignal): Promise<Record<string, unknown>> {
	const information = await import("systeminformation");
	const parts: Record<string, () => Promise<unknown>> = {
		system: () => information.system(),
		operatingSystem: () => information.osInfo(),
		cpu: () => information.cpu(),
		memory: async () => {
			const { total, available, swaptotal, swapused } = await information.mem();
			return { totalBytes: total, availableBytes: available, swapTotalBytes: swaptotal, swapUsedBytes: swapused };
		},
		network: () => information.networkInterfaces(),
		machine: () => readMachineIdentity(),
		disks: () => readBlockDevices(),
		fileSystems: readFileSystems,
	};
	const failed: Record<string, unknown> = {};
	const found = await Promise.all(
		Object.entries(parts).map(async ([name, read]) => {
			try {
				return [name, await within(read(), partLimitMs, name, signal)] as const;
			} catch (error) {
				failed[name] = asStillpointError(error).message;
				return [name, undefined] as const;
			}
		}),
	);
	signal.throwIfAborted();
	return { schemaVersion: 1, takenAt: new Date().toISOString(), ...Object.fromEntries(found), failed };
}

/** One entry for each superblock; the first mount of it names it. */
async function readFileSystems(): Promise<unknown[]> {
	const mounts = await readMountTable();
	const first = new Map(mounts.toReversed().map((mount) => [mount.superblock, mount]));
	return [...first.values()].filter(({ source }) => source.startsWith("/"));
}
