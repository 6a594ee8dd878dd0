import { createHash } from "node:crypto";
import { readBtrfsSuperblocks } from "./btrfs-check.ts";
import { findFileSystems } from "./image-identity.ts";
import { openRawImage, regionOf } from "./raw-image.ts";
import { btrfsSuperblockBytes, btrfsSuperblocksAt } from "./superblock-btrfs.ts";
import { ext4SuperblockAt } from "./superblock-ext4.ts";
import { parseXfsSuperblock, xfsSuperblockAt } from "./superblock-xfs.ts";

const chunkBytes = 4 << 20;

/**
 * A digest of the places of a disk (image or block device) that change when a frozen file system is thawed and written
 * to, before any other place does harm: the superblock of ext4 (written by the thaw itself), the log of XFS (written
 * before all else), the superblocks of btrfs (old blocks are used again only after a commit).
 *
 * For a provider that copies: the digest of the source after the copy's last byte, equal to that of the finished copy,
 * shows that it was still frozen then. Bytes alone can't show it: a thaw that comes when the copier has passed these
 * places may change nothing but contents of files. Reads some KiB, and for XFS the whole log (10 MiB to 2 GiB).
 */
export async function readThawMarks(path: string): Promise<string> {
	await using image = await openRawImage(path, { follow: true });
	const digest = createHash("sha256");
	for (const { fsType, uuid, offsetBytes, sizeBytes } of await findFileSystems(image)) {
		digest.update(`${fsType} ${uuid} ${offsetBytes}\n`);
		const reader = regionOf(image, offsetBytes, sizeBytes);
		for (const [at, length] of await findPlaces(fsType, reader)) {
			for (let done = 0; done < length; done += chunkBytes) {
				digest.update(await reader.read(at + done, Math.min(chunkBytes, length - done)));
			}
		}
	}
	return digest.digest("hex");
}

async function findPlaces(fsType: string, reader: ReturnType<typeof regionOf>): Promise<[number, number][]> {
	if (fsType.startsWith("ext")) return [[ext4SuperblockAt.offsetBytes, ext4SuperblockAt.lengthBytes]];
	if (fsType === "btrfs") {
		const superblocks = await readBtrfsSuperblocks(reader);
		return superblocks.map((_, index) => [btrfsSuperblocksAt[index] as number, btrfsSuperblockBytes]);
	}
	if (fsType !== "xfs") return [];
	const superblock = parseXfsSuperblock(await reader.read(xfsSuperblockAt.offsetBytes, xfsSuperblockAt.lengthBytes));
	const logOffset = superblock?.logOffsetBytes;
	return superblock && logOffset !== undefined
		? [[logOffset, Math.min(superblock.logSizeBytes, reader.sizeBytes)]]
		: [];
}
