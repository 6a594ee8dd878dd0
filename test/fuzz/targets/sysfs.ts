import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as fc from "fast-check";
import { parseCorosyncTokenMs } from "../../../command-line/check/cluster-timeouts.ts";
import type { DiskSelection } from "../../../contracts/order.ts";
import { readBlockDevices } from "../../../platform/linux/block-devices.ts";
import { parseFileMappings } from "../../../platform/linux/freeze-calls.ts";
import { planFreeze } from "../../../platform/linux/freeze-plan.ts";
import { parseDirtyBytes, parseWriteSpeed } from "../../../platform/linux/predict-stall.ts";
import { parseProcessStat } from "../../../platform/linux/process-identity.ts";
import type { StorageFacts } from "../../../platform/linux/storage-facts.ts";
import { parseSwaps } from "../../../platform/linux/swaps.ts";
import { type FuzzTarget, fuzzTarget, neverThrows } from "../fuzz-target.ts";
import { mutatedText } from "../inputs/mutated-text.ts";
import { procTexts } from "../samples/texts.ts";

/** What the kernel tells in /proc and /sys, and what others write below /etc for it. */
export function sysfsTargets(folder: string): FuzzTarget[] {
	const text = (name: string, parser: string, samples: readonly string[], run: (input: string) => void): FuzzTarget =>
		fuzzTarget({ name, parser, inputs: mutatedText(samples), run, mayThrow: neverThrows });
	const own = (path: string) => readFileSync(path, "utf8");
	return [
		text("swaps", "platform/linux/swaps.ts parseSwaps", [own("/proc/swaps"), ...procTexts.swaps], (input) => {
			for (const { path } of parseSwaps(input)) assert.ok(path.length <= input.length);
		}),
		text(
			"process-stat",
			"platform/linux/process-identity.ts parseProcessStat",
			[own("/proc/self/stat"), ...procTexts.stat],
			(input) => {
				const { startTime } = parseProcessStat(input);
				// Whatever a process calls itself, what the kernel writes behind the name is found.
				const name = input.slice(0, 15).replaceAll("\0", "");
				assert.equal(parseProcessStat(`1 (${name}) S 2 3${" 0".repeat(16)} 777 0\n`).startTime, "777");
				assert.ok(startTime === undefined || typeof startTime === "string");
			},
		),
		text(
			"file-mappings",
			"platform/linux/freeze-calls.ts parseFileMappings",
			[own("/proc/self/maps").slice(0, 20_000), ...procTexts.maps],
			(input) => {
				for (const { start, end } of parseFileMappings(input))
					assert.ok(typeof start === "bigint" && typeof end === "bigint");
			},
		),
		text(
			"dirty-bytes",
			"platform/linux/predict-stall.ts parseDirtyBytes",
			[own("/proc/meminfo"), ...procTexts.memInfo],
			(input) => {
				assert.ok(parseDirtyBytes(input) >= 0);
			},
		),
		text("write-speed", "platform/linux/predict-stall.ts parseWriteSpeed", procTexts.blockStat, (input) => {
			const speed = parseWriteSpeed(input);
			assert.ok(speed === undefined || speed >= 0);
		}),
		text("corosync", "command-line/check/cluster-timeouts.ts parseCorosyncTokenMs", procTexts.corosync, (input) => {
			assert.ok(parseCorosyncTokenMs(input) >= 0);
		}),
		fuzzTarget({
			name: "block-devices",
			parser: "platform/linux/block-devices.ts readBlockDevices",
			inputs: fc.array(fc.tuple(fc.constantFrom(...deviceFiles), mutatedText(deviceWords)), { maxLength: 8 }),
			run: async (files) => {
				const device = join(folder, "block/254:0");
				rmSync(device, { recursive: true, force: true });
				mkdirSync(join(device, "slaves/vda1"), { recursive: true });
				for (const [name, content] of files) {
					mkdirSync(dirname(join(device, name)), { recursive: true });
					writeFileSync(join(device, name), content);
				}
				const [found, ...others] = await readBlockDevices(join(folder, "block"));
				assert.deepEqual([found?.number, others.length], ["254:0", 0]);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "freeze-plan",
			parser: "platform/linux/freeze-plan.ts planFreeze, stack-graph.ts, freeze-levels.ts",
			inputs: fc.tuple(machineFacts, fc.constantFrom<DiskSelection>("all", { include: ["d1"] }, { exclude: ["d2"] })),
			run: ([facts, selection]) => {
				const filters = { include: [], exclude: [] };
				const { targets } = planFreeze({ facts, selection, filters, tempDisks: ["d3"], hostFolders: ["/a"] });
				for (const { level } of targets) assert.ok(level >= 0 && level < Math.max(1, targets.length));
			},
		}),
	];
}

const deviceFiles = [
	"size",
	"ro",
	"partition",
	"dev",
	"loop/backing_file",
	"dm/name",
	"serial",
	"device/serial",
	"device/vpd_pg80",
	"slaves/vda1/dev",
];
const deviceWords = [
	"2097152\n",
	"0\n",
	"1\n",
	"254:1\n",
	"/srv/a b.img (deleted)\n",
	"vg-root\n",
	"\0\u0080\0\u0010WD-1234      \n",
];

/** Devices and file systems that lie on each other in whatever way, circles too. */
const number = fc.nat({ max: 7 }).map((minor) => `8:${minor}`);
const machineFacts: fc.Arbitrary<StorageFacts> = fc
	.tuple(
		fc.array(
			fc.record({ slaves: fc.array(number, { maxLength: 3 }), partitionOf: fc.option(number, { nil: undefined }) }),
			{ minLength: 1, maxLength: 8 },
		),
		fc.array(
			fc.record({
				devices: fc.array(number, { maxLength: 3 }),
				extraDevices: fc.array(number, { maxLength: 2 }),
				unknown: fc.boolean(),
				fsType: fc.constantFrom("ext4", "xfs", "btrfs", "overlay", "tmpfs", "nfs4", "vfat"),
				mountPoint: fc.constantFrom("/", "/a", "/a/b", "/c"),
				carries: fc.option(number, { nil: undefined }),
			}),
			{ maxLength: 8 },
		),
	)
	.map(([devices, fileSystems]) => ({
		mounts: fileSystems.map(({ fsType, mountPoint }, index) => ({
			...{ id: index + 1, parentId: index, superblock: `9:${index}`, root: "/", mountPoint, options: ["rw"], fsType },
			...{ source: `/dev/d${index}`, superOptions: ["rw", "lowerdir=/a:/c"] },
		})),
		namespaces: [],
		devices: devices.map(({ slaves, partitionOf }, index) => ({
			...{ number: `8:${index}`, name: `d${index}`, slaves, sizeBytes: 1_024, readOnly: false },
			...(partitionOf === undefined ? {} : { partitionOf }),
		})),
		fileSystems: fileSystems.map(({ devices, extraDevices, unknown, fsType }, index) => ({
			superblock: `9:${index}`,
			devices,
			extraDevices,
			unknown,
			fsType,
		})),
		loopCarriers: Object.fromEntries(
			fileSystems.flatMap(({ carries }, index) => (carries === undefined ? [] : [[carries, `9:${index}`]])),
		),
		descriptors: {},
		noDeviceTypes: new Set(["tmpfs"]),
		swaps: [{ path: "/a/swap", isFile: true, carrier: "9:0" }],
		unmounted: [{ fsType: "ext4", devices: ["8:1"] }],
	}));
