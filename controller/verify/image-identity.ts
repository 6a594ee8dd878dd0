import type { ImageIdentity } from "../../contracts/recovery-point.ts";
import type { Partition } from "./partition-table.ts";
import { findGptPartitions, findMbrPartitions } from "./partition-table.ts";
import type { RawReader } from "./raw-image.ts";
import { openRawImage, regionOf } from "./raw-image.ts";
import { btrfsSuperblockBytes, btrfsSuperblocksAt, parseBtrfsSuperblock } from "./superblock-btrfs.ts";
import { ext4SuperblockAt, parseExt4Superblock } from "./superblock-ext4.ts";
import { readOtherSignature } from "./superblock-other.ts";
import { parseXfsSuperblock, xfsSuperblockAt } from "./superblock-xfs.ts";

/** A file system, or a container of such (`LVM2_member`, `crypto_LUKS`, `linux_raid_member`), `swap`, `vfat`. */
export type FoundFileSystem = ImageIdentity["fileSystems"][number] & { sizeBytes: number };

/**
 * What lies on a raw image or block device: directly on it, or in the partitions of its GPT or MBR. UUIDs are written
 * as blkid writes them. Some reads of a few KiB; nothing is opened for writing. A device that is not readable is
 * `image-unreadable`; bytes that make no sense are no file system, never an error.
 */
export async function readImageIdentity(path: string): Promise<ImageIdentity> {
	await using image = await openRawImage(path, { follow: true });
	const found = await findFileSystems(image);
	return { fileSystems: found.map(({ fsType, uuid, offsetBytes }) => ({ fsType, uuid, offsetBytes })) };
}

export async function findFileSystems(image: RawReader): Promise<FoundFileSystem[]> {
	const gpt = await findGptPartitions(image);
	// A disk that was partitioned later may still carry an old superblock behind the table: the table counts.
	if (gpt) return findInPartitions(image, gpt);
	const inPartitions = await findInPartitions(image, await findMbrPartitions(image));
	if (inPartitions.length > 0) return inPartitions;
	const whole = await findSuperblock(image);
	return whole ? [{ ...whole, offsetBytes: 0, sizeBytes: image.sizeBytes }] : [];
}

async function findInPartitions(image: RawReader, partitions: readonly Partition[]): Promise<FoundFileSystem[]> {
	const found: FoundFileSystem[] = [];
	for (const { offsetBytes, sizeBytes } of partitions) {
		const region = regionOf(image, offsetBytes, sizeBytes);
		const one = await findSuperblock(region);
		if (one) found.push({ ...one, offsetBytes, sizeBytes: region.sizeBytes });
	}
	return found;
}

async function findSuperblock(reader: RawReader): Promise<{ fsType: string; uuid: string } | undefined> {
	const xfs = parseXfsSuperblock(await reader.read(xfsSuperblockAt.offsetBytes, xfsSuperblockAt.lengthBytes));
	if (xfs) return { fsType: "xfs", uuid: xfs.uuid };
	// mkfs.ext4 leaves an older btrfs superblock at 64 KiB behind; mkfs.btrfs and mkfs.xfs write over ext4's place.
	const ext4 = parseExt4Superblock(await reader.read(ext4SuperblockAt.offsetBytes, ext4SuperblockAt.lengthBytes));
	if (ext4) return { fsType: ext4.fsType, uuid: ext4.uuid };
	const btrfs = parseBtrfsSuperblock(await reader.read(btrfsSuperblocksAt[0], btrfsSuperblockBytes));
	if (btrfs) return { fsType: "btrfs", uuid: btrfs.fsid };
	return readOtherSignature(reader);
}
