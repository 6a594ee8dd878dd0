import { open, stat } from "node:fs/promises";
import type { BlockDevice } from "./block-devices.ts";
import type { FreezeCalls, LoopStatus } from "./freeze-calls.ts";
import { findMountOf } from "./mount-lookup.ts";
import type { NamespaceMounts } from "./mount-namespaces.ts";
import type { Mount } from "./mount-table.ts";
import { formatDeviceNumber } from "./superblock-uuid.ts";

export type LoopSurroundings = {
	readonly mounts: readonly Mount[];
	readonly namespaces: readonly NamespaceMounts[];
	readonly calls: Pick<FreezeCalls, "readLoopStatus">;
};

/** Types whose files have another `st_dev` than their superblock in the mount table. */
const differingNumbers = new Set(["btrfs", "overlay"]);
const deletedMark = " (deleted)";

/**
 * The superblock that carries the file behind a loop device. The kernel's own word (device and inode of the file) goes
 * first; where its device number is not that of the superblock (btrfs, overlay), the path is looked up in each mount
 * namespace and must lead to that very file.
 */
export async function findLoopCarrier(loop: BlockDevice, around: LoopSurroundings): Promise<string | undefined> {
	if (loop.backingFile === undefined) return undefined;
	const status = await readStatus(loop, around.calls);
	const everyMount = [...around.mounts, ...around.namespaces.flatMap((namespace) => namespace.mounts)];
	const carrier = status === undefined ? undefined : formatDeviceNumber(status.dev);
	if (carrier !== undefined && everyMount.some((mount) => mount.superblock === carrier)) return carrier;
	const path = loop.backingFile.endsWith(deletedMark)
		? loop.backingFile.slice(0, -deletedMark.length)
		: loop.backingFile;
	const tables = [
		{ prefix: "", mounts: around.mounts },
		...around.namespaces.map(({ pid, mounts }) => ({ prefix: `/proc/${pid}/root`, mounts })),
	];
	for (const { prefix, mounts } of tables) {
		const mount = findMountOf(mounts, path);
		// Nothing else is looked at by path: a network mount might hang.
		if (mount === undefined || !differingNumbers.has(mount.fsType)) continue;
		if (status !== undefined && (await isSameFile(`${prefix}${path}`, status))) return mount.superblock;
	}
	return undefined;
}

async function readStatus(loop: BlockDevice, calls: LoopSurroundings["calls"]): Promise<LoopStatus | undefined> {
	try {
		await using device = await open(`/dev/${loop.name}`, "r");
		const status = await calls.readLoopStatus(device.fd);
		return "error" in status ? undefined : status;
	} catch {
		return undefined;
	}
}

async function isSameFile(path: string, status: LoopStatus): Promise<boolean> {
	const stats = await stat(path, { bigint: true }).catch(() => undefined);
	return stats !== undefined && stats.dev === status.dev && stats.ino === status.ino;
}
