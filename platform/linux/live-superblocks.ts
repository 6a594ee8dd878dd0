import { readdir, readFile } from "node:fs/promises";

/** File systems that the kernel has alive, whether or not any mount table shows them. */
export type LiveSuperblocks = {
	/** ext4 (also what is mounted as ext2 or ext3 by it), xfs, f2fs: kernel name of the device. */
	readonly onDevice: readonly { readonly fsType: string; readonly device: string }[];
	/** btrfs: the UUID and its members, each "MAJOR:MINOR". */
	readonly btrfs: readonly { readonly uuid: string; readonly members: readonly string[] }[];
};

/** Reads /sys/fs only. */
export async function readLiveSuperblocks(): Promise<LiveSuperblocks> {
	const onDevice = await Promise.all(
		["ext4", "xfs", "f2fs"].map(async (fsType) => {
			const names = await readdir(`/sys/fs/${fsType}`).catch(() => []);
			return names
				.filter((name) => name !== "features" && name !== "stats" && name !== "debug" && name !== "tuning")
				.map((name) => ({ fsType, device: name.replaceAll("!", "/") }));
		}),
	);
	const uuids = (await readdir("/sys/fs/btrfs").catch(() => [])).filter((name) => /^[0-9a-f-]{36}$/.test(name));
	const btrfs = await Promise.all(
		uuids.map(async (uuid) => {
			const names = await readdir(`/sys/fs/btrfs/${uuid}/devices`).catch(() => []);
			const members = await Promise.all(
				names.map((name) => readFile(`/sys/fs/btrfs/${uuid}/devices/${name}/dev`, "utf8").catch(() => "")),
			);
			return { uuid, members: members.map((member) => member.trim()).filter((member) => member !== "") };
		}),
	);
	return { onDevice: onDevice.flat(), btrfs };
}

/** What runs on a btrfs that would hold up its freeze: `none`, `balance`, `resize`, ... as the kernel words it. */
export async function readBtrfsOperation(uuid: string): Promise<string> {
	const text = await readFile(`/sys/fs/btrfs/${uuid}/exclusive_operation`, "utf8").catch(() => "none");
	return text.trim();
}
