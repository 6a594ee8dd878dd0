import { describe, expect, it } from "vitest";
import type { FileSystemFilters } from "../../contracts/extension.ts";
import type { DiskSelection } from "../../contracts/order.ts";
import type { BlockDevice } from "../../platform/linux/block-devices.ts";
import { findTargetsBelow, planFreeze } from "../../platform/linux/freeze-plan.ts";
import { parseMountInfo } from "../../platform/linux/mount-table.ts";
import type { FileSystemStorage, StorageFacts } from "../../platform/linux/storage-facts.ts";

const gibibyte = 1024 ** 3;

function device(number: string, name: string, more: Partial<BlockDevice> = {}): BlockDevice {
	return { number, name, slaves: [], sizeBytes: gibibyte, readOnly: false, ...more };
}

/** Mounts are written as in mountinfo, shortened: "SUPERBLOCK ROOT MOUNTPOINT TYPE SOURCE SUPEROPTIONS [ID PARENT]". */
function mounts(...lines: string[]) {
	return parseMountInfo(
		lines
			.map((line, index) => {
				const [superblock, root, mountPoint, fsType, source, options, id, parent] = line.split(" ");
				return `${id ?? index + 1} ${parent ?? (index === 0 ? 0 : 1)} ${superblock} ${root} ${mountPoint} rw - ${fsType} ${source} ${options}`;
			})
			.join("\n"),
	);
}

function on(
	superblock: string,
	fsType: string,
	devices: string[],
	more: Partial<FileSystemStorage> = {},
): FileSystemStorage {
	return { superblock, fsType, uuid: `uuid-of-${superblock}`, devices, extraDevices: [], unknown: false, ...more };
}

/** A machine with / on vda1, swap on vda2, an empty vdb and a temp disk vdc. */
function facts(more: Partial<StorageFacts> & { extraMounts?: string[] } = {}): StorageFacts {
	const { extraMounts = [], devices = [], fileSystems = [], ...rest } = more;
	return {
		mounts: mounts("254:1 / / ext4 /dev/vda1 rw", ...extraMounts),
		namespaces: [],
		devices: [
			device("254:0", "vda", { serial: "root-disk" }),
			device("254:1", "vda1", { partitionOf: "254:0" }),
			device("254:2", "vda2", { partitionOf: "254:0" }),
			device("254:16", "vdb"),
			device("254:32", "vdc"),
			...devices,
		],
		fileSystems: [on("254:1", "ext4", ["254:1"]), ...fileSystems],
		loopCarriers: {},
		descriptors: {},
		noDeviceTypes: new Set(["tmpfs", "proc", "overlay", "nfs", "zfs", "newpseudofs"]),
		swaps: [],
		unmounted: [],
		...rest,
	};
}

const noFilters: FileSystemFilters = { include: [], exclude: [] };

function plan(
	machine: StorageFacts,
	selection: DiskSelection = "all",
	{ filters = noFilters, tempDisks = [] as string[], hostFolders = [] as string[] } = {},
) {
	return planFreeze({ facts: machine, selection, filters, tempDisks, hostFolders });
}

function levels(made: ReturnType<typeof plan>): string[] {
	return made.targets.map(({ mountPoint, level }) => `${level} ${mountPoint}`);
}

function missing(made: ReturnType<typeof plan>): string[] {
	return made.notCovered.map(({ what, why }) => `${what}: ${why}`);
}

const vdb = { extraMounts: ["254:16 / /data xfs /dev/vdb rw"], fileSystems: [on("254:16", "xfs", ["254:16"])] };

describe("choosing disks", () => {
	it.each([
		[{ include: ["sda"] }, "sda"],
		[{ exclude: ["sda"] }, "sda"],
		[{ include: ["vda1"] }, "vda1"],
		[{ include: ["serial:nothing"] }, "serial:nothing"],
		[{ include: ["vda", "VDA"] }, "VDA"],
	])("%j is refused, naming %s", (selection, named) => {
		expect(() => plan(facts(), selection)).toThrow(
			expect.objectContaining({ code: "disk-unknown", message: expect.stringContaining(named) }),
		);
	});

	it("a serial that two disks have names neither", () => {
		const twins = facts({ devices: [device("254:48", "vdd", { serial: "root-disk" })] });
		expect(() => plan(twins, { include: ["serial:root-disk"] })).toThrow(
			expect.objectContaining({ code: "disk-unknown" }),
		);
	});

	it("a disk can be named by its serial", () => {
		const made = plan(facts(vdb), { include: ["serial:root-disk"] });
		expect(levels(made)).toEqual(["0 /"]);
		expect(missing(made)).toEqual(["/data: disk-not-included", "vdb: disk-not-included", "vdc: disk-not-included"]);
	});

	it("all leaves temp disks out by name, and takes one that the order names", () => {
		const made = plan(facts(vdb), "all", { tempDisks: ["vdb"] });
		expect(levels(made)).toEqual(["0 /"]);
		expect(missing(made)).toEqual(["/data: temp-disk", "vdb: temp-disk"]);
		expect(levels(plan(facts(vdb), { include: ["vdb"] }, { tempDisks: ["vdb"] }))).toEqual(["0 /data"]);
	});

	it("all takes no loops, memory disks or empty drives for disks of the machine", () => {
		const odd = facts({
			devices: [
				device("7:0", "loop0"),
				device("253:0", "zram0"),
				device("11:0", "sr0"),
				device("8:0", "sda", { sizeBytes: 0 }),
			],
		});
		expect(plan(odd).disks.map(({ name }) => name)).toEqual(["vda", "vdb", "vdc"]);
	});

	it("tells for each disk the UUIDs that its image must carry, and no others", () => {
		const nested = facts({
			extraMounts: ["7:0 / /nested ext4 /dev/loop0 rw"],
			devices: [device("7:0", "loop0", { backingFile: "/image" })],
			fileSystems: [on("7:0", "ext4", ["7:0"])],
			loopCarriers: { "7:0": "254:1" },
		});
		const uuids = plan(nested).disks.map(({ name, fileSystemUuids }) => [name, fileSystemUuids]);
		expect(uuids).toEqual([
			["vda", ["uuid-of-254:1"]],
			["vdb", []],
			["vdc", []],
		]);
	});
});

describe("one target for each superblock", () => {
	it("bind mounts are aliases of the mount of the root", () => {
		const made = plan(
			facts({
				extraMounts: [
					"254:16 /sub /bind xfs /dev/vdb rw",
					"254:16 / /long/path/data xfs /dev/vdb rw",
					"254:16 /x /y xfs /dev/vdb rw",
				],
				fileSystems: [on("254:16", "xfs", ["254:16"])],
			}),
			{ include: ["vdb"] },
		);
		expect(made.targets).toMatchObject([{ mountPoint: "/long/path/data", aliases: ["/y", "/bind"], disks: ["vdb"] }]);
	});

	it("subvolumes of one btrfs are one, on all its members", () => {
		const made = plan(
			facts({
				extraMounts: ["0:40 /@home /home btrfs /dev/vdb rw", "0:40 /@srv /srv btrfs /dev/vdb rw"],
				fileSystems: [on("0:40", "btrfs", ["254:16", "254:32"])],
			}),
			{ exclude: ["vda"] },
		);
		expect(made.targets).toMatchObject([
			{ mountPoint: "/srv", aliases: ["/home"], disks: ["vdb", "vdc"], spans: false },
		]);
		expect(made.disks.map(({ fileSystemUuids }) => fileSystemUuids)).toEqual([
			["uuid-of-254:1"],
			["uuid-of-0:40"],
			["uuid-of-0:40"],
		]);
	});

	it("an over-mounted one is reached by another of its mounts, or else is not reached", () => {
		const over = ["254:16 / /data xfs /dev/vdb rw 2 1", "0:50 / /data tmpfs tmpfs rw 3 2"];
		const storage = { fileSystems: [on("254:16", "xfs", ["254:16"])] };
		const alias = plan(facts({ extraMounts: [...over, "254:16 /sub /alias xfs /dev/vdb rw 4 1"], ...storage }), {
			include: ["vdb"],
		});
		expect(alias.targets).toMatchObject([{ mountPoint: "/alias", reaches: [{ openPath: "/alias" }] }]);
		const hidden = plan(facts({ extraMounts: over, ...storage }), { include: ["vdb"] });
		expect(hidden.targets).toEqual([]);
		expect(hidden.leftOut).toMatchObject([{ mountPoint: "/data", why: "not-reached", writable: true, disks: ["vdb"] }]);
		const descriptors = { "254:16": ["/proc/9/fd/3"] };
		const opened = plan(facts({ extraMounts: over, ...storage, descriptors }), { include: ["vdb"] });
		expect(opened.targets).toMatchObject([{ mountPoint: "/data", reaches: [{ openPath: "/proc/9/fd/3" }] }]);
	});

	it("one that only another mount namespace has is reached through a process in it", () => {
		const namespaces = [
			{ pid: 77, namespace: "mnt:[1]", mounts: mounts("254:1 / / ext4 /dev/vda1 rw", "254:16 / /vol xfs /dev/vdb rw") },
		];
		const made = plan(facts({ namespaces, fileSystems: [on("254:16", "xfs", ["254:16"])] }));
		expect(made.targets).toMatchObject([
			{ mountPoint: "/vol", reaches: [{ openPath: "/proc/77/root/vol", mountPoint: "/vol" }], level: 0 },
			{ mountPoint: "/", reaches: [{ openPath: "/" }, { openPath: "/proc/77/root/" }], level: 1 },
		]);
	});

	it("one that is in no mount table is not reached, and named by its device", () => {
		const made = plan(facts({ unmounted: [{ fsType: "xfs", devices: ["254:16"] }] }), { include: ["vdb"] });
		expect(made.leftOut).toMatchObject([{ why: "not-reached", writable: true, disks: ["vdb"] }]);
		expect(missing(made)).toContain("/dev/vdb: not-reached");
	});
});

describe("what is left out", () => {
	it.each([
		["vfat", "254:16", ["254:16"], "rw", "unsupported-file-system", true],
		["exfat", "254:16", ["254:16"], "rw", "unsupported-file-system", true],
		["ext4", "254:16", ["254:16"], "ro", "read-only", false],
		["squashfs", "254:16", ["254:16"], "ro", "read-only", false],
		["fuseblk", "254:16", ["254:16"], "rw", "unsupported-file-system", true],
	])("%s (%s) with storage on the disk: %s", (fsType, superblock, devices, options, why, writable) => {
		const made = plan(
			facts({
				extraMounts: [`${superblock} / /data ${fsType} /dev/vdb ${options},x=y`],
				fileSystems: [on(superblock, fsType, devices)],
			}),
			{ include: ["vdb"] },
		);
		expect(made.targets).toEqual([]);
		expect(made.leftOut).toMatchObject([{ mountPoint: "/data", why, writable, deviceNumbers: ["254:16"] }]);
		expect(missing(made)).toContain(`/data: ${why}`);
	});

	it.each([
		["tmpfs", "no-storage"],
		["overlay", "no-storage"],
		["fuse.something", "no-storage"],
		["newpseudofs", "no-storage"],
		["nfs4", "network"],
		["cifs", "network"],
		["virtiofs", "network"],
		["fuse.sshfs", "network"],
	])("%s is named as %s and lowers no disk", (fsType, why) => {
		const made = plan(facts({ extraMounts: [`0:60 / /x ${fsType} source rw`] }));
		expect(made.targets.map(({ mountPoint }) => mountPoint)).toEqual(["/"]);
		expect(made.leftOut).toEqual([]);
		expect(missing(made)).toEqual([`/x: ${why}`]);
	});

	it("the kernel's own file systems are no word", () => {
		const made = plan(facts({ extraMounts: ["0:60 / /proc proc proc rw", "0:61 / /sys sysfs sysfs rw"] }));
		expect(missing(made)).toEqual([]);
	});

	it.each(["zfs", "btrfs"])("a %s whose devices nobody knows may lie on any disk", (fsType) => {
		const made = plan(
			facts({
				extraMounts: [`0:60 / /pool ${fsType} pool rw`],
				fileSystems: [on("0:60", fsType, [], { unknown: true })],
			}),
			{ include: ["vdb"] },
		);
		const found = [...made.targets, ...made.leftOut];
		expect(found).toMatchObject([{ mountPoint: "/pool", disks: ["vdb"], spans: true }]);
	});

	it("a read-only bind mount of a writable file system is a target", () => {
		const machine = facts({ fileSystems: [on("254:16", "xfs", ["254:16"])] });
		const bound = parseMountInfo("9 1 254:16 / /data ro,relatime - xfs /dev/vdb rw,attr2");
		const made = plan({ ...machine, mounts: [...machine.mounts, ...bound] }, { include: ["vdb"] });
		expect(levels(made)).toEqual(["0 /data"]);
	});

	it.each<[FileSystemFilters, string[], string[]]>([
		[{ include: [], exclude: [{ mountPoint: "/da*" }] }, ["/"], ["/data: excluded-by-config"]],
		[{ include: [], exclude: [{ mountPoint: "/bind" }] }, ["/"], ["/data: excluded-by-config"]],
		[{ include: [], exclude: [{ fsType: "xfs" }] }, ["/"], ["/data: excluded-by-config"]],
		[{ include: [], exclude: [{ device: "/dev/vdb" }] }, ["/"], ["/data: excluded-by-config"]],
		[{ include: [], exclude: [{ device: "vdb", fsType: "ext4" }] }, ["/data", "/"], []],
		[{ include: [{ fsType: "xfs" }], exclude: [] }, ["/data"], ["/: excluded-by-config"]],
		[
			{ include: [{ fsType: "xfs" }], exclude: [{ device: "vdb" }] },
			[],
			["/: excluded-by-config", "/data: excluded-by-config"],
		],
	])("config %j freezes %j", (filters, frozen, named) => {
		const machine = facts({ ...vdb, extraMounts: [...vdb.extraMounts, "254:16 /in /bind xfs /dev/vdb rw"] });
		const made = plan(machine, "all", { filters });
		expect(made.targets.map(({ mountPoint }) => mountPoint)).toEqual(frozen);
		expect(missing(made)).toEqual(named);
		expect(made.leftOut.map(({ writable }) => writable)).toEqual(named.map(() => true));
	});

	it("swap on an included disk is named", () => {
		const swaps = [
			{ path: "/dev/vda2", isFile: false, device: "254:2" },
			{ path: "/swap.img", isFile: true, carrier: "254:1" },
			{ path: "/dev/vdb", isFile: false, device: "254:16" },
		];
		expect(missing(plan(facts({ swaps }), { include: ["vda"] }))).toEqual([
			"/dev/vda2: swap",
			"/swap.img: swap",
			"vdb: disk-not-included",
			"vdc: disk-not-included",
		]);
	});
});

describe("the stack below", () => {
	const nested = {
		extraMounts: [
			"254:16 / /data xfs /dev/vdb rw",
			"7:0 / /mid ext4 /dev/loop0 rw",
			"7:1 / /top ext4 /dev/loop1 rw",
			"254:32 / /temp ext4 /dev/vdc rw",
		],
		devices: [
			device("7:0", "loop0", { backingFile: "/data/mid" }),
			device("7:1", "loop1", { backingFile: "/mid/top" }),
		],
		fileSystems: [
			on("254:16", "xfs", ["254:16"]),
			on("7:0", "ext4", ["7:0"]),
			on("7:1", "ext4", ["7:1"]),
			on("254:32", "ext4", ["254:32"]),
		],
		loopCarriers: { "7:0": "254:16", "7:1": "7:0" },
	};

	it("upper layers come first, / comes last", () => {
		expect(levels(plan(facts(nested)))).toEqual(["0 /temp", "0 /top", "1 /mid", "2 /data", "3 /"]);
	});

	it("the file systems of the host come last too, as far as the stack allows", () => {
		const hosted = plan(facts(nested), "all", { hostFolders: ["/mid/state", "/temp/logs"] });
		expect(levels(hosted)).toEqual(["0 /top", "1 /", "1 /mid", "1 /temp", "2 /data"]);
	});

	it("/ on a loop device is frozen before what carries it", () => {
		const live = facts({
			extraMounts: ["254:16 / /medium ext4 /dev/vdb rw"],
			devices: [device("7:0", "loop0", { backingFile: "/medium/root.img" })],
			loopCarriers: { "7:0": "254:16" },
			mounts: mounts("7:0 / / ext4 /dev/loop0 rw", "254:16 / /medium ext4 /dev/vdb rw"),
			fileSystems: [on("7:0", "ext4", ["7:0"]), on("254:16", "ext4", ["254:16"])],
		});
		expect(levels(plan(live))).toEqual(["0 /", "1 /medium"]);
	});

	it("what lies on a disk through loops is on the disk", () => {
		const made = plan(facts(nested), { include: ["vdb"] });
		expect(made.targets.map(({ mountPoint, disks }) => [mountPoint, disks])).toEqual([
			["/top", ["vdb"]],
			["/mid", ["vdb"]],
			["/data", ["vdb"]],
		]);
	});

	it("a loop device may be named as the disk, without what carries it", () => {
		const made = plan(facts(nested), { include: ["loop0"] });
		expect(levels(made)).toEqual(["0 /top", "1 /mid"]);
		expect(made.targets.map(({ spans }) => spans)).toEqual([false, false]);
	});

	it("dm over md over two disks touches both, and spans when one is left out", () => {
		const stacked = facts({
			extraMounts: ["252:0 / /lv ext4 /dev/mapper/vg-lv rw"],
			devices: [
				device("252:0", "dm-0", { slaves: ["9:0"], mapperName: "vg-lv" }),
				device("9:0", "md0", { slaves: ["254:16", "254:32"] }),
			],
			fileSystems: [on("252:0", "ext4", ["252:0"])],
		});
		expect(plan(stacked).targets.at(0)).toMatchObject({ mountPoint: "/lv", disks: ["vdb", "vdc"], spans: false });
		const half = plan(stacked, { include: ["vdc"] });
		expect(half.targets).toMatchObject([{ mountPoint: "/lv", disks: ["vdc"], spans: true }]);
		expect(missing(half)).toContain("/lv: spans-left-out-disk");
		expect(plan(stacked, { include: ["vg-lv"] }).targets).toMatchObject([{ disks: ["dm-0"], spans: false }]);
	});

	it("a member, a journal or a log on a left-out disk makes it span", () => {
		const journal = facts({
			...vdb,
			fileSystems: [on("254:16", "xfs", ["254:16"], { extraDevices: ["254:32"] })],
		});
		for (const one of ["vdb", "vdc"]) {
			const made = plan(journal, { include: [one] });
			expect(made.targets).toMatchObject([{ mountPoint: "/data", disks: [one], spans: true }]);
		}
		expect(plan(journal, { include: ["vdb", "vdc"] }).targets).toMatchObject([{ spans: false }]);
	});

	it("a loop whose file nobody can find may lie on any disk", () => {
		const lost = facts({
			extraMounts: ["7:0 / /lost ext4 /dev/loop0 rw"],
			devices: [device("7:0", "loop0", { backingFile: "/gone (deleted)" })],
			fileSystems: [on("7:0", "ext4", ["7:0"])],
			loopCarriers: { "7:0": null },
		});
		expect(plan(lost, { include: ["vdb"] }).targets).toMatchObject([
			{ mountPoint: "/lost", disks: ["vdb"], spans: true },
		]);
		expect(plan(lost, { include: ["loop0"] }).targets).toMatchObject([{ mountPoint: "/lost", spans: false }]);
	});

	it("a loop on an overlay lies on the layers' file systems", () => {
		const overlay = facts({
			extraMounts: [
				"254:16 / /data xfs /dev/vdb rw",
				"0:70 / /merged overlay overlay rw,lowerdir=/data/low,upperdir=/data/up,workdir=/data/work",
				"7:0 / /in ext4 /dev/loop0 rw",
			],
			devices: [device("7:0", "loop0", { backingFile: "/merged/image" })],
			fileSystems: [on("254:16", "xfs", ["254:16"]), on("0:70", "overlay", []), on("7:0", "ext4", ["7:0"])],
			loopCarriers: { "7:0": "0:70" },
		});
		expect(levels(plan(overlay, { include: ["vdb"] }))).toEqual(["0 /in", "1 /data"]);
	});

	it("a circle in the facts ends", () => {
		const circle = facts({
			...nested,
			loopCarriers: { "7:0": "7:1", "7:1": "7:0" },
		});
		expect(plan(circle, { include: ["loop0"] }).targets).toHaveLength(2);
	});
});

describe("a folder that must stay writable", () => {
	it("lies on a target directly, below an overlay, or not at all", () => {
		const machine = facts({
			extraMounts: ["0:50 / /run tmpfs tmpfs rw", "0:70 / /merged overlay overlay rw,upperdir=/up"],
			fileSystems: [on("0:70", "overlay", [])],
		});
		const made = plan(machine);
		expect(findTargetsBelow(made, machine, "/var/lib").map(({ mountPoint }) => mountPoint)).toEqual(["/"]);
		expect(findTargetsBelow(made, machine, "/merged/x").map(({ mountPoint }) => mountPoint)).toEqual(["/"]);
		expect(findTargetsBelow(made, machine, "/run/stillpoint")).toEqual([]);
	});
});
