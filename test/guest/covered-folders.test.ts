/** Whether a folder is in a snapshot, by the mount table: subvolumes of btrfs, and file systems mounted below. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LoopFileSystem, makeLoopFileSystem, requireTools, startGuard } from "../fixtures/loop-file-system.ts";

const { requireCovered, readSuperblock } = await import(
	join(import.meta.dirname, "../../scripts/kit/covered-folders.mjs")
);
const missing = requireTools("root", "mkfs.btrfs", "btrfs", "mkfs.ext4", "losetup", "mount");

describe.skipIf(missing)(`folders that a snapshot covers${missing ? `: ${missing}` : ""}`, () => {
	const stack = new AsyncDisposableStack();
	let tree: LoopFileSystem;
	let other: LoopFileSystem;
	let input: object;

	beforeAll(async () => {
		const dir = await mkdtemp("/var/lib/stillpoint-test-");
		stack.defer(() => rm(dir, { recursive: true, force: true }));
		stack.use(startGuard({ dir, limitMs: 300_000 }));
		tree = stack.use(await makeLoopFileSystem({ dir, fsType: "btrfs", sizeMiB: 128, name: "tree" }));
		other = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 16, name: "other" }));
		await execa("btrfs", ["subvolume", "create", join(tree.mountPoint, "sub")]);
		input = { fileSystems: [{ mountPoint: tree.mountPoint, superblock: readSuperblock(tree.mountPoint) }] };
	});
	afterAll(() => stack.disposeAsync());

	test("a subvolume of btrfs, mounted or not, is its file system", async () => {
		const inside = join(tree.mountPoint, "sub");
		const at = join(tree.mountPoint, "mounted sub");
		await mkdir(at);
		await execa("mount", ["-o", "subvol=sub", tree.device, at]);
		stack.defer(async () => void (await execa("umount", [at])));
		requireCovered(input, { inside, mounted: at, both: tree.mountPoint });
		expect(() => requireCovered(input, { data: other.mountPoint })).toThrow(
			`data (${other.mountPoint}) is not in the snapshot, which holds ${tree.mountPoint}`,
		);
	});

	test("a file system mounted below a folder counts, one without storage does not", async () => {
		const data = join(tree.mountPoint, "data");
		await mkdir(join(data, "statistics"), { recursive: true });
		await mkdir(join(data, "other place"));
		await execa("mount", ["-t", "tmpfs", "none", join(data, "statistics")]);
		stack.defer(async () => void (await execa("umount", [join(data, "statistics")])));
		requireCovered(input, { data });
		await execa("mount", ["--bind", other.mountPoint, join(data, "other place")]);
		try {
			expect(() => requireCovered(input, { data })).toThrow(`data (${data}/other place) is not in the snapshot`);
		} finally {
			await execa("umount", [join(data, "other place")]);
		}
	});
});
