/** The ways in which a file system can be mounted, each through a whole job: who waits during the hold, and what is said. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import type { Level } from "../../contracts/level.ts";
import type { Because, NotCovered } from "../../contracts/report.ts";
import { readMountTable } from "../../platform/linux/mount-table.ts";
import {
	type LoopFileSystem,
	type LoopFileSystemOptions,
	requireTools,
	unmount,
} from "../fixtures/loop-file-system.ts";
import { isWritable, takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { type SnapshotBench, useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount");

type Case = {
	readonly claim: string;
	/** What the order names, when it is not all of `writable` and `others`. */
	readonly ordered?: (made: LoopFileSystem) => Pick<LoopFileSystem, "devices" | "fsType" | "uuid">;
	readonly fsType?: "ext4" | "btrfs";
	readonly options?: Partial<LoopFileSystemOptions>;
	readonly arrange: (made: LoopFileSystem, bench: SnapshotBench) => Promise<Arranged>;
	readonly level?: Level;
	readonly because?: readonly Because[];
	/** Of the superblock that is held: what else is said of the case's own mounts. */
	readonly notCovered?: readonly NotCovered["why"][];
};

type Arranged = {
	/** Every path that leads to the file system of the case: all must wait. */
	readonly held: readonly string[];
	/** Paths beside it: none may wait. */
	readonly free?: readonly string[];
	readonly beside?: readonly LoopFileSystem[];
};

const cases: readonly Case[] = [
	{
		claim: "a bind mount waits with what it shows",
		async arrange({ mountPoint }, bench) {
			await mkdir(join(mountPoint, "sub"));
			const bind = await mount(bench, "--bind", join(mountPoint, "sub"));
			return { held: [mountPoint, bind] };
		},
	},
	{
		claim: "a read-only bind mount takes nothing from the file system below it",
		async arrange({ mountPoint }, bench) {
			const bind = await mount(bench, "--bind", mountPoint);
			await execa("mount", ["-o", "remount,bind,ro", bind]);
			return { held: [mountPoint] };
		},
	},
	{
		claim: "every subvolume of a btrfs waits with the others",
		fsType: "btrfs",
		async arrange({ mountPoint, device }, bench) {
			for (const name of ["a", "b"]) await execa("btrfs", ["subvolume", "create", join(mountPoint, name)]);
			const a = await mount(bench, "-o", "subvol=a", device);
			const b = await mount(bench, "-o", "subvol=b", device);
			return { held: [mountPoint, join(mountPoint, "a"), a, b] };
		},
	},
	{
		claim: "a btrfs on two disks, both in the order",
		fsType: "btrfs",
		options: { devices: 2 },
		arrange: async ({ mountPoint }) => ({ held: [mountPoint] }),
	},
	{
		claim: "a btrfs on two disks, one in the order, is frozen and worth crash",
		fsType: "btrfs",
		options: { devices: 2 },
		ordered: ({ devices, fsType, uuid }) => ({ devices: devices.slice(1), fsType, uuid }),
		arrange: async ({ mountPoint }) => ({ held: [mountPoint] }),
		level: "crash",
		because: ["spans-left-out-disk"],
		notCovered: ["spans-left-out-disk"],
	},
	{
		claim: "what is hidden under another mount is held through its alias",
		async arrange({ mountPoint }, bench) {
			const alias = await mount(bench, "--bind", mountPoint);
			await execa("mount", ["-t", "tmpfs", "tmpfs", mountPoint]);
			bench.defer(() => execa("umount", [mountPoint]));
			return { held: [alias], free: [mountPoint] };
		},
		notCovered: ["no-storage"],
	},
	{
		claim: "a read-only file system beside it lowers nothing",
		async arrange({ mountPoint }, bench) {
			const still = await bench.make("ext4");
			await execa("mount", ["-o", "remount,ro", still.mountPoint]);
			return { held: [mountPoint], beside: [still] };
		},
		notCovered: ["read-only"],
	},
	{
		claim: "a tmpfs beside it goes on and lowers nothing",
		async arrange({ mountPoint }, bench) {
			return { held: [mountPoint], free: [await mount(bench, "-t", "tmpfs", "tmpfs")] };
		},
		notCovered: ["no-storage"],
	},
	{
		claim: "an overlay waits with the file system of its upper folder",
		async arrange({ mountPoint }, bench) {
			for (const name of ["low", "up", "work"]) await mkdir(join(mountPoint, name));
			const folders = `lowerdir=${mountPoint}/low,upperdir=${mountPoint}/up,workdir=${mountPoint}/work`;
			return { held: [mountPoint, await mount(bench, "-t", "overlay", "overlay", "-o", folders)] };
		},
		notCovered: ["no-storage"],
	},
];

describe.skipIf(missing)(`how storage may be mounted${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();

	describe.each(cases)("$claim", ({ fsType = "ext4", options, ordered, arrange, ...expected }) => {
		const lacking = fsType === "btrfs" ? requireTools("mkfs.btrfs", "btrfs") : undefined;

		test.skipIf(lacking)(`through a whole job${lacking ? `: ${lacking}` : ""}`, async () => {
			const { level = "file-system", because = [], notCovered = [] } = expected;
			const made = await bench.make(fsType, options);
			const { held, free = [], beside = [] } = await arrange(made, bench);
			const disks = [ordered?.(made) ?? made, ...beside];
			const host = await bench.start(disks, { acceptLevel: level === "crash" ? "crash" : "file-system" });
			expect(await writable([...held, ...free])).toEqual([...held, ...free]);

			await toFrozen(host);
			expect((await host.event("frozen")).worth).toBe(level);
			expect(await writable([...held, ...free]), "who may write during the hold").toEqual(free);

			const report = await takeSnapshot(host, disks);
			expect(report).toMatchObject({ achieved: level, held: level, because });
			expect(report.error).toBeUndefined();
			expect((await host.event("targets")).targets).toHaveLength(1);
			expect(report.fileSystems).toMatchObject([{ uuid: made.uuid, result: "thawed", frozenUntilSnapshotEnded: true }]);
			// What another process's mount namespace still holds of a case before is none of this one.
			const mounted = new Set((await readMountTable()).map((one) => one.mountPoint));
			const said = report.notCovered.filter(
				({ what }) => what.startsWith(bench.dir) && !what.startsWith(bench.one.mountPoint) && mounted.has(what),
			);
			expect(said.map(({ why }) => why)).toEqual(notCovered);
			expect(await writable([...held, ...free])).toEqual([...held, ...free]);
		});
	});
});

async function mount({ dir, defer }: SnapshotBench, ...args: string[]): Promise<string> {
	const point = join(dir, `mounted-${process.hrtime.bigint()}`);
	await mkdir(point);
	await execa("mount", [...args, point]);
	defer(() => unmount(point));
	return point;
}

async function writable(paths: readonly string[]): Promise<string[]> {
	const answers = await Promise.all(paths.map((mountPoint) => isWritable({ mountPoint })));
	return paths.filter((_path, index) => answers[index] === true);
}
