import type { LoopFileSystemType } from "../../test/fixtures/loop-file-system.ts";

export type FreezeCase = {
	readonly name: string;
	/** One for each file system, in mount order. */
	readonly fileSystems: readonly FileSystemSpec[];
	/** The second file system's image lies on the first. */
	readonly stacked?: boolean;
	/** Written to each, and not written out, before each turn. */
	readonly dirtyMiB?: number;
	/** A writer on each that goes on through all turns, besides the probe. */
	readonly steadyWriters?: boolean;
	/** The agent's `frozenStallMs` over qemu-ga's must not be more. */
	readonly goalRatio: number;
	/** The agent's `frozenStallMs` must not be more than so many times that of another case. */
	readonly goalTimes?: { readonly factor: number; readonly caseName: string };
	/** Part of `--quick`. */
	readonly quick?: boolean;
};

export type FileSystemSpec = { readonly fsType: LoopFileSystemType; readonly sizeMiB: number };

const ext4: FileSystemSpec = { fsType: "ext4", sizeMiB: 128 };
const xfs: FileSystemSpec = { fsType: "xfs", sizeMiB: 320 };
const btrfs: FileSystemSpec = { fsType: "btrfs", sizeMiB: 256 };

function times(count: number, ...specs: FileSystemSpec[]): FileSystemSpec[] {
	return Array.from({ length: count }, () => specs).flat();
}

/** "Idle": nothing but the probe writes, which appends 4 KiB every few ms. */
export const freezeCases: readonly FreezeCase[] = [
	{ name: "1 idle ext4", fileSystems: times(1, ext4), goalRatio: 1 },
	{ name: "4 idle ext4", fileSystems: times(4, ext4), goalRatio: 1 },
	{ name: "12 idle ext4", fileSystems: times(12, ext4), goalRatio: 1 / 15, quick: true },
	{
		name: "32 idle ext4",
		fileSystems: times(32, ext4),
		goalRatio: 1 / 25,
		goalTimes: { factor: 3, caseName: "4 idle ext4" },
	},
	{ name: "12 mixed", fileSystems: times(4, ext4, xfs, btrfs), goalRatio: 1 },
	{
		name: "6 ext4, 64 MiB dirty each",
		fileSystems: times(6, { fsType: "ext4", sizeMiB: 320 }),
		dirtyMiB: 64,
		goalRatio: 1 / 4,
	},
	{
		name: "1 ext4, 512 MiB dirty",
		fileSystems: times(1, { fsType: "ext4", sizeMiB: 1600 }),
		dirtyMiB: 512,
		goalRatio: 1 / 4,
		quick: true,
	},
	{ name: "12 ext4, steady writers", fileSystems: times(12, ext4), steadyWriters: true, goalRatio: 1 },
	{
		name: "ext4 on ext4, two levels",
		fileSystems: [{ fsType: "ext4", sizeMiB: 512 }, ext4],
		stacked: true,
		goalRatio: 1,
	},
];

/** Where the file systems of any case are mounted below `folder`, so that an agent can be told before they are made. */
export function allMountPoints(folder: string): string[] {
	const most = Math.max(...freezeCases.map(({ fileSystems }) => fileSystems.length));
	const flat = Array.from({ length: most }, (_, index) => `${folder}/${mountName(index)}`);
	return [...flat, `${folder}/${mountName(0)}/${mountName(1)}`];
}

export function mountName(index: number): string {
	return `fs-${String(index + 1).padStart(2, "0")}`;
}
