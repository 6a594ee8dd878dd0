import { describe, expect, it } from "vitest";
import { kindOfFileSystem, parseNoDeviceTypes } from "../../platform/linux/file-system-types.ts";
import { parseFileMappings } from "../../platform/linux/freeze-calls.ts";
import { parseProcessStat } from "../../platform/linux/process-identity.ts";
import { formatDeviceNumber, parseSuperblockFacts } from "../../platform/linux/superblock-uuid.ts";
import { parseSwaps } from "../../platform/linux/swaps.ts";

const uuidBytes = Buffer.from("00112233445566778899aabbccddeeff", "hex");
const uuid = "00112233-4455-6677-8899-aabbccddeeff";

function ext4({ journalInode = 8, journalDevice = 0, compat = 4 } = {}): Buffer {
	const bytes = Buffer.alloc(4096);
	bytes.writeUInt16LE(0xef53, 1024 + 0x38);
	bytes.writeUInt32LE(compat, 1024 + 0x5c);
	uuidBytes.copy(bytes, 1024 + 0x68);
	bytes.writeUInt32LE(journalInode, 1024 + 0xe0);
	bytes.writeUInt32LE(journalDevice, 1024 + 0xe4);
	return bytes;
}

describe("the first bytes of a device", () => {
	it.each([
		["nothing", Buffer.alloc(4096)],
		["too few bytes", ext4().subarray(0, 2048)],
		["noise", Buffer.alloc(4096, 0xa5)],
	])("%s is no file system", (_what, bytes) => {
		expect(parseSuperblockFacts(bytes)).toEqual({});
	});

	it("give the UUID of ext4 and xfs", () => {
		expect(parseSuperblockFacts(ext4())).toEqual({ uuid });
		const xfs = Buffer.alloc(4096);
		xfs.write("XFSB", "latin1");
		uuidBytes.copy(xfs, 32);
		expect(parseSuperblockFacts(xfs)).toEqual({ uuid });
	});

	it("give the device of an external journal, and only when it is one", () => {
		expect(parseSuperblockFacts(ext4({ journalInode: 0, journalDevice: 0x0711 }))).toEqual({
			uuid,
			journalDevice: "7:17",
		});
		expect(parseSuperblockFacts(ext4({ journalInode: 8, journalDevice: 0x0711 }))).toEqual({ uuid });
		expect(parseSuperblockFacts(ext4({ journalInode: 0, journalDevice: 0x0711, compat: 0 }))).toEqual({ uuid });
	});
});

it("device numbers of the kernel's wide form are read", () => {
	expect(formatDeviceNumber(0x0000_fe00)).toBe("254:0");
	expect(formatDeviceNumber((259 << 8) | 5 | (1 << 20))).toBe("259:261");
	expect(formatDeviceNumber(0n)).toBe("0:0");
});

it("swaps are read past their heading, with escapes", () => {
	expect(parseSwaps("")).toEqual([]);
	const heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
	expect(parseSwaps(heading)).toEqual([]);
	expect(parseSwaps(`${heading}/dev/vda2 partition\t1\t0\t-2\n/a\\040b\tfile\t1\t0\t-3\n`)).toEqual([
		{ path: "/dev/vda2", isFile: false },
		{ path: "/a b", isFile: true },
	]);
});

it("a program's name can't shift the fields of its stat line", () => {
	const fields = Array.from({ length: 40 }, (_, index) => String(index + 4)).join(" ");
	expect(parseProcessStat(`12 (a) R 1 (b) S ${fields}`)).toEqual({
		state: "S",
		parent: 4,
		group: 5,
		startTime: "22",
	});
	expect(parseProcessStat("").startTime).toBeUndefined();
});

it("only readable mappings with a file behind them are pinned", () => {
	const maps = [
		"00400000-00401000 r--p 00000000 fe:00 12   /usr/bin/node",
		"00401000-00402000 ---p 00000000 fe:00 12   /usr/bin/node",
		"00500000-00501000 rw-p 00000000 00:00 0    [heap]",
		"00600000-00601000 rw-p 00000000 00:00 0 ",
		"00700000-00702000 r-xp 00000000 fe:00 13   /lib/with space (deleted)",
		"00800000-00801000 rw-s 00000000 00:01 0    /dev/zero (deleted)",
		"rubbish",
	];
	expect(parseFileMappings(maps.join("\n"))).toEqual([
		{ start: 0x400000n, end: 0x401000n },
		{ start: 0x700000n, end: 0x702000n },
	]);
});

it("a type without a device is told by the kernel's own table, except where that misleads", () => {
	const noDevice = parseNoDeviceTypes("nodev\tsysfs\nnodev\tzfs\nnodev\tnewfs\n\text4\n\tbtrfs\n");
	expect([...noDevice]).toEqual(["sysfs", "zfs", "newfs"]);
	const kind = (fsType: string, superblock = "0:9") => kindOfFileSystem({ fsType, superblock }, noDevice);
	expect([
		kind("newfs"),
		kind("zfs"),
		kind("unheard-of"),
		kind("btrfs"),
		kind("ntfs3", "8:1"),
		kind("fuseblk", "8:1"),
	]).toEqual(["no-storage", "unsupported", "unsupported", "freezable", "unsupported", "unsupported"]);
});
