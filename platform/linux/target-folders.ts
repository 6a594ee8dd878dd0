import type { BigIntStats } from "node:fs";
import { closeSync, constants, fstat, open } from "node:fs";
import { promisify } from "node:util";
import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";

const openAsync = promisify(open);

/** An open directory of a file system, checked to be the planned one. Open directories reach it whatever becomes of its path. */
export type HeldFolder = { readonly target: FreezeTarget; readonly fd: number };

export type FolderFault = { readonly target: FreezeTarget; readonly message: string };

/**
 * Opens a target's directory for reading, which does not hang on a frozen file system, and checks that it is the
 * directory that was planned. `any-folder` leaves the check out: the caller knows that `path` leads to the superblock.
 */
export async function openTargetFolder(
	target: FreezeTarget,
	path = target.openPath,
	which: "planned-folder" | "any-folder" = "planned-folder",
): Promise<HeldFolder | FolderFault> {
	let fd: number;
	try {
		fd = await openAsync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NONBLOCK);
	} catch (error) {
		return { target, message: `cannot be opened (${(error as NodeJS.ErrnoException).code})` };
	}
	if (which === "any-folder") return { target, fd };
	const stats = await statFd(fd);
	if (String(stats.dev) === target.dev && String(stats.ino) === target.ino) return { target, fd };
	closeSync(fd);
	return { target, message: "is another directory than the planned one" };
}

export function isHeld(folder: HeldFolder | FolderFault): folder is HeldFolder {
	return "fd" in folder;
}

export function closeFolders(folders: readonly HeldFolder[]): void {
	for (const { fd } of folders) closeSync(fd);
}

function statFd(fd: number): Promise<BigIntStats> {
	return new Promise((resolve, reject) => {
		fstat(fd, { bigint: true }, (error, stats) => (error ? reject(error) : resolve(stats)));
	});
}
