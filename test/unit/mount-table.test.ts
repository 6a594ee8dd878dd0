import { describe, expect, it } from "vitest";
import { findMountOf, isVisible } from "../../platform/linux/mount-lookup.ts";
import { parseMountInfo } from "../../platform/linux/mount-table.ts";
import { groupMounts } from "../../platform/linux/mounted-superblocks.ts";

const good = "36 35 98:0 /sub /mnt/a rw,noatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=continue";

describe("the mount table", () => {
	it.each([
		["no separator", good.replace(" - ", " ")],
		["an id that is no number", good.replace("36", "x")],
		["an id too long for a number", good.replace("36", "9".repeat(30))],
		["no device number", good.replace("98:0", "98")],
		["a device number with a sign", good.replace("98:0", "-98:0")],
		["cut off in the middle", good.slice(0, 40)],
		["binary rubbish", "\0\0\0\0"],
		["a single word", "garbage"],
	])("a line with %s is refused, naming the line", (what, line) => {
		expect(() => parseMountInfo(`${good}\n${line}\n`), what).toThrow(
			expect.objectContaining({ code: "message-invalid", message: expect.stringContaining("line 2") }),
		);
	});

	it("reads every field, with any number of optional ones", () => {
		for (const optional of ["", " shared:1", " shared:1 master:2 propagate_from:3 unbindable"]) {
			const line = `36 35 98:0 /sub /mnt/a rw,noatime${optional} - ext4 /dev/sda1 rw,errors=continue`;
			expect(parseMountInfo(line)).toEqual([
				{
					id: 36,
					parentId: 35,
					superblock: "98:0",
					root: "/sub",
					mountPoint: "/mnt/a",
					options: ["rw", "noatime"],
					fsType: "ext4",
					source: "/dev/sda1",
					superOptions: ["rw", "errors=continue"],
				},
			]);
		}
	});

	it("undoes the kernel's escapes, and only them", () => {
		const [mount] = parseMountInfo(
			"36 35 98:0 / /a\\040b\\011c\\012d\\134040e - rw - ext4 x\\043y rw".replace(" - rw - ", " rw - "),
		);
		expect(mount?.mountPoint).toBe("/a b\tc\nd\\040e");
		expect(mount?.source).toBe("x#y");
	});

	it("fields that a later kernel may add at the end do no harm, nor do empty lines", () => {
		expect(parseMountInfo(`${good} more\n\n${good}\n`)).toMatchObject([{ fsType: "ext4" }, { fsType: "ext4" }]);
	});

	it("takes a mount point called - for what it is", () => {
		const [mount] = parseMountInfo("36 35 0:9 / - rw - tmpfs - rw");
		expect(mount).toMatchObject({ mountPoint: "-", source: "-", fsType: "tmpfs" });
	});

	it("an empty source is a source", () => {
		expect(parseMountInfo("36 35 0:9 / /x rw - tmpfs  rw")).toMatchObject([{ source: "" }]);
	});
});

describe("looking up a path in the mount table", () => {
	const table = parseMountInfo(
		[
			"1 0 8:1 / / rw - ext4 a rw",
			"2 1 8:2 / /data rw - ext4 b rw",
			"3 2 8:3 / /data/in rw - ext4 c rw",
			"4 2 8:4 / /data rw - ext4 d rw",
			"5 1 8:5 / /dat rw - ext4 e rw",
		].join("\n"),
	);

	it.each([
		["/", "8:1"],
		["/database", "8:1"],
		["/dat/x", "8:5"],
		["/data", "8:4"],
		["/data/in/x", "8:4"],
	])("%s lies on %s", (path, superblock) => {
		expect(findMountOf(table, path)?.superblock).toBe(superblock);
	});

	it("what lies under a later mount is hidden, with all below it", () => {
		expect(table.filter((mount) => !isVisible(table, mount)).map(({ superblock }) => superblock)).toEqual([
			"8:2",
			"8:3",
		]);
	});

	it("tens of thousands of mounts, as anybody may make them, are looked up at once", () => {
		const flat = Array.from(
			{ length: 30_000 },
			(_, index) => `${index + 2} 1 0:${index} / /run/m${index} rw - tmpfs t rw`,
		);
		const many = parseMountInfo(["1 1 8:1 / / rw - ext4 a rw", ...flat].join("\n"));
		const mounted = groupMounts({
			mounts: many,
			namespaces: [{ pid: 7, namespace: "n", mounts: many }],
			descriptors: {},
		});
		expect(mounted).toHaveLength(30_001);
		expect(mounted.every(({ reaches }) => reaches.length === 2)).toBe(true);
	});

	it("a table that leads in a circle ends", () => {
		const circle = parseMountInfo("1 2 8:1 / / rw - ext4 a rw\n2 1 8:2 / / rw - ext4 b rw");
		expect(findMountOf(circle, "/x")).toBeDefined();
		expect(findMountOf([], "/x")).toBeUndefined();
	});
});
