/**
 * What the demo takes a snapshot of: real file systems on loop devices, which stand for the disks of a machine, with
 * writers on each of them. One file system lies in a file on another, as container and VM images do.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { StillpointError } from "../contracts/errors.ts";
import { type LoopFileSystem, type LoopFileSystemType, makeLoopFileSystem } from "../test/fixtures/loop-file-system.ts";
import { missingTools, packagesOf } from "../test/fixtures/required-tools.ts";
import { startWriter, type Writer } from "./writers.ts";

export type ScratchDisk = {
	/** Kernel name, as the guest knows it: `loop3`. */
	name: string;
	/** Where it lies on the controller's host. */
	image: string;
	fileSystem: LoopFileSystem;
};

export type ScratchMachine = AsyncDisposable & {
	readonly disks: readonly ScratchDisk[];
	readonly nested: LoopFileSystem;
	readonly databasePath: string;
	/** What could not be made, with the command that would allow it. */
	readonly left: readonly string[];
	/** `mostCommits`: of each, before it begins anew; without it a disk is full after a minute or so. */
	startWriters(mostCommits?: number): Promise<Writer[]>;
};

export async function makeScratchMachine(folder: string): Promise<ScratchMachine> {
	await using undo = new AsyncDisposableStack();
	const left: string[] = [];
	const disks: ScratchDisk[] = [];
	requireWhatDebianHas();
	const addDisk = async (name: string, fsType: LoopFileSystemType, sizeMiB: number): Promise<ScratchDisk> => {
		const fileSystem = undo.use(await makeLoopFileSystem({ dir: folder, name, fsType, sizeMiB }));
		const disk = { name: kernelName(fileSystem.device), image: fileSystem.imagePath, fileSystem };
		disks.push(disk);
		return disk;
	};
	const system = await addDisk("system", "ext4", 256);
	const database = await addDisk("database", "ext4", 128);
	for (const [name, fsType, sizeMiB] of [
		["files", "xfs", 320],
		["media", "btrfs", 192],
	] as const) {
		const why = await whyNotHere(fsType);
		if (why === undefined) await addDisk(name, fsType, sizeMiB);
		else left.push(`${fsType}: ${why}`);
	}
	const inside = join(system.fileSystem.mountPoint, "images");
	await mkdir(inside);
	const nested = undo.use(await makeLoopFileSystem({ dir: inside, fsType: "ext4", sizeMiB: 64, name: "inner" }));
	const databasePath = join(database.fileSystem.mountPoint, "orders.db");
	const owned = undo.move();
	return {
		disks,
		nested,
		databasePath,
		left,
		startWriters: (mostCommits) =>
			Promise.all([
				startWriter("sqlite", databasePath, mostCommits),
				...[...disks.map((disk) => disk.fileSystem), nested].map((one) =>
					startWriter("file", join(one.mountPoint, "journal.dat"), mostCommits),
				),
			]),
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

/** Every Debian has these; a cut-down container may not. */
function requireWhatDebianHas(): void {
	const needed = [
		"bash",
		"mkfs.ext4",
		"e2fsck",
		"losetup",
		"mount",
		"umount",
		"blkid",
		"fsfreeze",
		"unshare",
		"nsenter",
		"setpriv",
	];
	const missing = missingTools(needed);
	if (missing.length === 0) return;
	const packages = packagesOf(missing);
	const install = packages.length > 0 ? `: apt-get install ${packages.join(" ")}` : "";
	throw new StillpointError("tool-missing", `npm start needs ${missing.join(", ")}${install}`, {
		details: { missing },
	});
}

/** Undefined when file systems of the type can be made and mounted. */
async function whyNotHere(fsType: string): Promise<string | undefined> {
	const missing = missingTools([`mkfs.${fsType}`]);
	if (missing.length > 0) return `apt-get install ${packagesOf(missing).join(" ")}`;
	if ((await readFile("/proc/filesystems", "utf8")).split(/\s+/).includes(fsType)) return undefined;
	const loaded = await execa("modprobe", [fsType], { reject: false });
	return loaded.exitCode === 0 ? undefined : "this kernel cannot mount it";
}

function kernelName(device: string): string {
	return device.replace(/^\/dev\//, "");
}
