import { expect, test } from "vitest";
import { widthOf } from "../../command-line/layout.ts";
import { renderInventory } from "../../command-line/render-inventory.ts";

const page = { columns: 80, hasColor: false };

test("an inventory is a page: the machine, its disks by the names of orders, its file systems", () => {
	const text = renderInventory(
		{
			takenAt: "2026-11-20T11:00:00.000Z",
			operatingSystem: { hostname: "db1", distro: "Debian", release: "12", kernel: "6.1", arch: "x64" },
			cpu: { brand: "EPYC", cores: 2 },
			memory: { totalBytes: 2 ** 31, swapTotalBytes: 0 },
			network: [
				{ iface: "lo", ip4: "127.0.0.1", internal: true },
				{ iface: "eth0", ip4: "192.0.2.2", ip6: "" },
			],
			disks: [
				{ name: "vda", sizeBytes: 2 ** 30, serial: "abc" },
				{ name: "vda1", sizeBytes: 2 ** 29, partitionOf: "254:0" },
				{ name: "loop7", sizeBytes: 0 },
			],
			fileSystems: [{ mountPoint: `/srv/${"long/".repeat(30)}`, fsType: "ext4", source: "/dev/vda1" }],
			failed: { system: "system took longer than 5000 ms" },
		},
		page,
	);
	expect(text).toMatch(
		/host +db1\n +system +Debian 12 kernel 6.1 x64\n +cpu +2 cores EPYC\n +memory +2.0 GiB, swap 0 B/,
	);
	expect(text).toMatch(/network +eth0 192.0.2.2$/m);
	expect(text).toMatch(/^ {2}vda +1.0 GiB +abc$/m);
	expect(text).toContain("not known   system: system took longer");
	expect(text).not.toMatch(/vda1 +512|loop7|127.0.0.1|[{}"]/);
	expect(text.split("\n").filter((line) => widthOf(line) > 80)).toEqual([]);
});

test("what another version tells otherwise is left out, and the rest stands", () => {
	const odd = { takenAt: 3, disks: [{ name: "vda", sizeBytes: "much" }], cpu: "fast", fileSystems: {}, failed: [] };
	expect(renderInventory(odd, page)).not.toMatch(/undefined|NaN|object/);
	expect(renderInventory({ ...odd, memory: { totalBytes: 1024 } }, page)).toContain("1.0 KiB");
});
