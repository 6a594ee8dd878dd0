import { join } from "node:path";
import { freeze, type LoopFileSystem, makeLoopFileSystem } from "../../fixtures/loop-file-system.ts";
import { type Lane, type Machine, openLane } from "./lane.ts";

/** One disk with one file system, on which the agent keeps what is its own. */
export type TableMachine = Machine & {
	readonly fileSystem: LoopFileSystem;
	/** Frozen by somebody else; mounted by somebody else. */
	readonly foreign: LoopFileSystem;
};

const limitMs = 580_000;

export function openTableLane(): Promise<Lane<TableMachine>> {
	return openLane({ openMachine, limitMs });
}

async function openMachine(dir: string): Promise<TableMachine> {
	await using undo = new AsyncDisposableStack();
	const disk = { dir, fsType: "ext4", mkfsArgs: ["-E", "lazy_itable_init=0"] } as const;
	const [fileSystem, foreign] = await Promise.all([
		makeLoopFileSystem({ ...disk, sizeMiB: 16, name: "machine" }),
		makeLoopFileSystem({ ...disk, sizeMiB: 8, name: "foreign" }),
	]);
	undo.use(fileSystem);
	undo.use(foreign);
	await freeze(foreign.mountPoint);
	const { device, imagePath, mountPoint } = fileSystem;
	const owned = undo.move();
	return {
		fileSystem,
		foreign,
		images: [{ disk: device.replace("/dev/", ""), imagePath }],
		writable: [mountPoint],
		stateFolder: join(mountPoint, "own"),
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}
