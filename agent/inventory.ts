/** Hardware, operating system, disks and file systems. Some parts start programs, so it is never taken while frozen. */
import { asStillpointError } from "../contracts/errors.ts";
import { readBlockDevices } from "../platform/linux/block-devices.ts";
import { readMachineIdentity } from "../platform/linux/machine-identity.ts";
import { readMountTable } from "../platform/linux/mount-table.ts";
import { within } from "../platform/within.ts";

const partLimitMs = 5_000;

type Parts = Readonly<Record<string, () => Promise<unknown>>>;

export type Inventory = {
	/**
	 * Each part on its own, with a deadline: one that fails is named in `failed` with its reason, and the others stand.
	 * Mounts are read from the kernel's table and never touched: a dead network mount would hang.
	 */
	take(signal: AbortSignal): Promise<Record<string, unknown>>;
	/** Resolves when nothing of an inventory is read any more, also of one that has ended without waiting for it. */
	ended(limitMs: number): Promise<void>;
};

export function makeInventory(loadParts: () => Promise<Parts> = loadAllParts): Inventory {
	const reading = new Set<Promise<unknown>>();

	function note<T>(work: Promise<T>): Promise<T> {
		reading.add(work);
		const forget = () => void reading.delete(work);
		work.then(forget, forget);
		return work;
	}

	async function take(signal: AbortSignal): Promise<Record<string, unknown>> {
		const parts = await note(loadParts());
		const failed: Record<string, unknown> = {};
		const found = await Promise.all(
			Object.entries(parts).map(async ([name, read]) => {
				try {
					return [name, await within(note(read()), partLimitMs, name, signal)] as const;
				} catch (error) {
					failed[name] = asStillpointError(error).message;
					return [name, undefined] as const;
				}
			}),
		);
		signal.throwIfAborted();
		return { schemaVersion: 1, takenAt: new Date().toISOString(), ...Object.fromEntries(found), failed };
	}

	return {
		take: (signal) => note(take(signal)),
		async ended(limitMs) {
			const all = async () => {
				while (reading.size > 0) await Promise.allSettled(reading);
			};
			await within(all(), limitMs, "the end of an inventory");
		},
	};
}

async function loadAllParts(): Promise<Parts> {
	const information = await import("systeminformation");
	return {
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
}

/** One entry for each superblock; the first mount of it names it. */
async function readFileSystems(): Promise<unknown[]> {
	const mounts = await readMountTable();
	const first = new Map(mounts.toReversed().map((mount) => [mount.superblock, mount]));
	return [...first.values()].filter(({ source }) => source.startsWith("/"));
}
