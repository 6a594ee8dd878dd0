import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findPartitionOffsets, readBlobIdentity } from "../../extensions/vm-snapshot-linux/azure/blob-identity.ts";
import { findLunDisks } from "../../extensions/vm-snapshot-linux/azure/lun-disks.ts";

describe("which disk is which LUN", () => {
	let root: string;
	beforeEach(async () => {
		root = await realpath(await mkdtemp(join(tmpdir(), "stillpoint-test-")));
	});
	afterEach(() => rm(root, { recursive: true }));

	test("is read from the links of Azure's rules, old and new", async () => {
		for (const [name, disk] of [
			["root", "sda"],
			["scsi1/lun0", "sdc"],
			["scsi1/lun12", "sdd"],
			["scsi1/lun0-part1", "sdc1"],
			["resource", "sdb"],
		] as const) {
			await link(join(root, "old", name), disk);
		}
		expect(await find("old")).toEqual([
			{ lun: -1, name: "sda" },
			{ lun: 0, name: "sdc" },
			{ lun: 12, name: "sdd" },
		]);
		await link(join(root, "new", "os"), "nvme0n1");
		await link(join(root, "new", "data/by-lun/3"), "nvme0n5");
		expect(await find("new")).toEqual([
			{ lun: -1, name: "nvme0n1" },
			{ lun: 3, name: "nvme0n5" },
		]);
	});

	test("is read from the addresses in /sys where there are no links", async () => {
		await device("sda", "{f8b3781a-1e82-4818-a1c3-63d806ec15bb}", "0:0:0:0");
		await device("sdb", "{f8b3781a-1e82-4818-a1c3-63d806ec15bb}", "0:0:0:1");
		await device("sdc", "{f8b3781b-1e82-4818-a1c3-63d806ec15bb}", "1:0:0:0");
		await device("sdd", "{f8b3781b-1e82-4818-a1c3-63d806ec15bb}", "1:0:0:4");
		await device("sde", undefined, "2:0:0:2");
		expect(await find("none")).toEqual([
			{ lun: -1, name: "sda" },
			{ lun: 0, name: "sdc" },
			{ lun: 4, name: "sdd" },
		]);
	});

	test("is not known of a machine that is not Azure's", async () => {
		await device("sda", undefined, "0:0:0:0");
		expect(await find("none")).toEqual([]);
	});

	function find(links: string) {
		return findLunDisks({ linksFolder: join(root, links), sysFolder: join(root, "sys") });
	}

	async function link(path: string, disk: string): Promise<void> {
		const target = join(root, "dev", disk);
		await mkdir(dirname(target), { recursive: true });
		await writeFile(target, "");
		await mkdir(dirname(path), { recursive: true });
		await symlink(target, path);
	}

	async function device(name: string, controller: string | undefined, address: string): Promise<void> {
		const bus = join(root, "sys/devices", `bus-${address}`);
		const folder = join(bus, `host/target/${address}`);
		await mkdir(folder, { recursive: true });
		if (controller !== undefined) await writeFile(join(bus, "device_id"), `${controller}\n`);
		await mkdir(join(root, "sys/block", name), { recursive: true });
		await symlink(folder, join(root, "sys/block", name, "device"));
	}
});

describe("what lies on a blob", () => {
	test("is found alone, in an MBR and in a GPT", async () => {
		const alone = ext4("11111111-2222-3333-4444-555555555555");
		expect(await identify(alone)).toEqual([
			{ fsType: "ext4", uuid: "11111111-2222-3333-4444-555555555555", offsetBytes: 0 },
		]);

		const mbr = Buffer.alloc(1_048_576);
		mbr.writeUInt16LE(0xaa55, 510);
		mbr.writeUInt8(0x83, 446 + 4);
		mbr.writeUInt32LE(1024, 446 + 8);
		alone.copy(mbr, 1024 * 512);
		expect(findPartitionOffsets(mbr)).toEqual([1024 * 512]);
		expect(await identify(mbr)).toMatchObject([{ uuid: "11111111-2222-3333-4444-555555555555", offsetBytes: 524_288 }]);

		const gpt = Buffer.alloc(1_048_576);
		gpt.writeUInt16LE(0xaa55, 510);
		gpt.write("EFI PART", 512, "latin1");
		gpt.writeBigUInt64LE(2n, 512 + 72);
		gpt.writeUInt32LE(128, 512 + 80);
		gpt.writeUInt32LE(128, 512 + 84);
		gpt.writeUInt8(1, 1024);
		gpt.writeBigUInt64LE(1024n, 1024 + 32);
		alone.copy(gpt, 1024 * 512);
		expect(await identify(gpt)).toMatchObject([{ fsType: "ext4", offsetBytes: 524_288 }]);
	});

	test("is nothing where nothing is known, however it is cut", async () => {
		for (const bytes of [Buffer.alloc(0), Buffer.alloc(100), Buffer.alloc(200_000), Buffer.alloc(200_000, 0xff)]) {
			expect(await identify(bytes)).toEqual([]);
		}
	});

	test("a btrfs is found by its own superblock", async () => {
		const bytes = Buffer.alloc(100_000);
		bytes.write("_BHRfS_M", 65_536 + 0x40, "latin1");
		Buffer.from("0123456789abcdef0123456789abcdef", "hex").copy(bytes, 65_536 + 0x20);
		expect(await identify(bytes)).toMatchObject([{ fsType: "btrfs", uuid: "01234567-89ab-cdef-0123-456789abcdef" }]);
	});

	async function identify(disk: Buffer) {
		const read = (at: number, length: number) => Promise.resolve(disk.subarray(at, at + length));
		return (await readBlobIdentity(read)).fileSystems;
	}

	function ext4(uuid: string): Buffer {
		const bytes = Buffer.alloc(100_000);
		bytes.writeUInt16LE(0xef53, 1024 + 0x38);
		Buffer.from(uuid.replaceAll("-", ""), "hex").copy(bytes, 1024 + 0x68);
		return bytes;
	}
});
