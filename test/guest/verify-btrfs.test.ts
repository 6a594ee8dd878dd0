/** btrfs on one and on two devices, frozen and live under load. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { copyImage, hold, writeManifest } from "../fixtures/held-recovery-point.ts";
import { makeLoopFileSystem, requireTools, unmount } from "../fixtures/loop-file-system.ts";
import { copyAll, disksOf, failed, sizesMiB, testNothingIsLeft, useVerifyBench } from "../fixtures/verify-bench.ts";
import { testKind } from "../fixtures/verify-kind.ts";

const bench = useVerifyBench();
testKind(bench, { fsType: "btrfs", devices: 1, tools: ["mkfs.btrfs", "btrfs"] });
testKind(bench, { fsType: "btrfs", devices: 2, tools: ["mkfs.btrfs", "btrfs"] });

const btrfsMissing = requireTools("root", "fsfreeze", "mkfs.btrfs", "btrfs");
describe.skipIf(btrfsMissing)(btrfsMissing ? `btrfs members: ${btrfsMissing}` : "btrfs members", () => {
	test("a member of another time, and a member that is not there, are found", async () => {
		await using one = await bench.busy({ fsType: "btrfs", devices: 2 });
		const folder = await bench.newFolder();
		await hold([one], () => copyAll(one, folder));
		await sleep(300);
		const [first] = one.imagePaths as [string];
		const held = await hold([one], () => copyImage(first, join(folder, "disk0.img")));
		await writeManifest(folder, disksOf(one), held);
		const mixed = await bench.verify(folder);
		expect(mixed).toMatchObject({ looksLike: "crash", agrees: false });
		expect(failed(mixed)).toContain("members");

		await writeManifest(folder, disksOf(one).slice(0, 1), held);
		const alone = await bench.verify(folder);
		expect(alone).toMatchObject({ looksLike: "crash", agrees: false });
		expect(failed(alone)).toContain("members");
	});

	test("the marker is found in a subvolume", async () => {
		await using one = await makeLoopFileSystem({
			dir: bench.dir,
			fsType: "btrfs",
			sizeMiB: sizesMiB.btrfs,
			name: bench.nextName(),
		});
		await execa("btrfs", ["subvolume", "create", join(one.mountPoint, "@home")]);
		const folder = await bench.newFolder();
		const inSubvolume = { ...one, mountPoint: join(bench.dir, bench.nextName()) };
		await mkdir(inSubvolume.mountPoint);
		await execa("mount", ["-t", "btrfs", "-o", "subvol=@home", one.device, inSubvolume.mountPoint]);
		try {
			const held = await hold([inSubvolume], () => copyAll(one, folder));
			await writeManifest(folder, [{ name: "disk0", image: "disk0.img", fileSystems: [inSubvolume] }], held);
		} finally {
			await unmount(inSubvolume.mountPoint);
		}
		expect(await bench.verify(folder)).toMatchObject({ looksLike: "file-system", agrees: true });
	});
});

testNothingIsLeft(bench);
