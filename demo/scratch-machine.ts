/**
 * What the demo takes a snapshot of: real file systems on loop devices, which stand for the disks of a machine, with
 * writers on each of them. One file system lies in a file on another, as container and VM images do.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
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
	startWriters(): Promise<Writer[]>;
};

export async function makeScratchMachine(folder: string): Promise<ScratchMachine> {
	await using undo = new AsyncDisposableStack();
	const left: string[] = [];
	const disks: ScratchDisk[] = [];
	const wanted: { name: string; fsType: LoopFileSystemType; sizeMiB: number }[] = [
		{ name: "system", fsType: "ext4", sizeMiB: 256 },
		{ name: "database", fsType: "ext4", sizeMiB: 128 },
		{ name: "files", fsType: "xfs", sizeMiB: 320 },
		{ name: "media", fsType: "btrfs", sizeMiB: 192 },
	];
	for (const one of wanted) {
		const missing = missingTools([`mkfs.${one.fsType}`]);
		if (missing.length > 0) {
			left.push(`${one.fsType}: apt-get install ${packagesOf(missing).join(" ")}`);
			continue;
		}
		const fileSystem = undo.use(await makeLoopFileSystem({ dir: folder, ...one }));
		disks.push({ name: kernelName(fileSystem.device), image: fileSystem.imagePath, fileSystem });
	}
	const [system, database] = disks as [ScratchDisk, ScratchDisk];
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
		startWriters: () =>
			Promise.all([
				startWriter("sqlite", databasePath),
				...[...disks.map((disk) => disk.fileSystem), nested].map((one) =>
					startWriter("file", join(one.mountPoint, "journal.dat")),
				),
			]),
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

function kernelName(device: string): string {
	return device.replace(/^\/dev\//, "");
}
