import { randomBytes } from "node:crypto";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { FileSystemInImages } from "./found-file-system.ts";
import type { ImagePart } from "./image-tools.ts";
import { firstLine, runTool } from "./image-tools.ts";
import { btrfsSuperblockBytes, btrfsSuperblocksAt, parseBtrfsSuperblock, withFsid } from "./superblock-btrfs.ts";

export type ScratchCopies = { parts: [ImagePart, ...ImagePart[]] } | { failure: string };

/**
 * Private, writable copies of the images that a file system lies on (reflinks where the scratch folder can, sparse
 * copies else). A btrfs copy gets a fsid of its own before any program sees it: two of one fsid on a machine are mixed up.
 */
export async function copyToScratch(
	fileSystem: FileSystemInImages,
	scratchDir: string,
	signal: AbortSignal,
): Promise<ScratchCopies> {
	const parts: ImagePart[] = [];
	const fsid = randomBytes(16);
	for (const [index, member] of fileSystem.members.entries()) {
		const imagePath = join(scratchDir, `copy-${index}.img`);
		await rm(imagePath, { force: true });
		const copied = await runTool(
			"cp",
			["--sparse=always", "--reflink=auto", "--", member.imagePath, imagePath],
			signal,
		);
		if (copied.exitCode !== 0) return { failure: `no scratch copy: ${copied.failure ?? firstLine(copied.output)}` };
		const part = { imagePath, offsetBytes: member.offsetBytes, sizeBytes: member.sizeBytes };
		if (fileSystem.fsType === "btrfs" && !(await giveFsid(part, fsid))) {
			return { failure: "its copy can't be given another fsid: unknown kind of checksum" };
		}
		parts.push(part);
	}
	return { parts: parts as [ImagePart, ...ImagePart[]] };
}

/** Changes every superblock of one member; false when its checksum can't be made here. */
async function giveFsid({ imagePath, offsetBytes, sizeBytes }: ImagePart, fsid: Buffer): Promise<boolean> {
	await using handle = await open(imagePath, "r+");
	for (const at of btrfsSuperblocksAt) {
		if (at + btrfsSuperblockBytes > sizeBytes) break;
		const bytes = Buffer.alloc(btrfsSuperblockBytes);
		await handle.read(bytes, 0, bytes.length, offsetBytes + at);
		const superblock = parseBtrfsSuperblock(bytes);
		if (!superblock) continue;
		// One that is damaged must stay so: a right checksum would hide it from the checker.
		const changed = withFsid(bytes, fsid);
		if (!changed) return false;
		if (superblock.checksumOk === false) changed.fill(0, 0, 4);
		await handle.write(changed, 0, changed.length, offsetBytes + at);
	}
	return true;
}
