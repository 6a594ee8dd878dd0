/**
 * The one way in which a writable file system that was not frozen keeps a level up: an EFI partition that was shown
 * not to have changed. Kernels for tests may lack vfat, so a real ext4 stands for it here.
 */
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import { orderSchema } from "../../contracts/order.ts";
import { noOtherScripts } from "../../contracts/other-scripts.ts";
import { systemClock } from "../../extensions/vm-snapshot-linux/clock.ts";
import { judge } from "../../extensions/vm-snapshot-linux/consistency-verdict.ts";
import { JobRecord } from "../../extensions/vm-snapshot-linux/job-record.ts";
import { lookAgain } from "../../extensions/vm-snapshot-linux/look-again.ts";
import { planJob } from "../../extensions/vm-snapshot-linux/plan-job.ts";
import { countWritesBefore, findChanged } from "../../extensions/vm-snapshot-linux/still-file-systems.ts";
import { loadFreezeCalls } from "../../platform/linux/freeze-calls.ts";
import type { LeftOutFileSystem } from "../../platform/linux/freeze-plan.ts";
import { type LoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { planLoops } from "../fixtures/planned-targets.ts";
import { nameOf } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount");

describe.skipIf(missing)(`a file system without a freeze${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const signal = AbortSignal.timeout(60_000);

	/** Without the background work of a young ext4 and times of access, which an EFI partition does not know. */
	async function makeStill(): Promise<{ disk: LoopFileSystem; leftOut: LeftOutFileSystem }> {
		const disk = await bench.make("ext4", {
			mkfsArgs: ["-E", "lazy_itable_init=0,lazy_journal_init=0"],
			mountOptions: ["noatime"],
		});
		await writeFile(join(disk.mountPoint, "kernel"), Buffer.alloc(100_000, 1));
		const target = (await planLoops([disk])).targets.find(({ device }) => device === disk.device);
		if (target === undefined) throw new Error("no target");
		const { aliases: _aliases, level: _level, ...described } = target;
		const deviceNumbers = [target.superblock];
		return {
			disk,
			leftOut: { ...described, fsType: "vfat", why: "unsupported-file-system", writable: true, deviceNumbers },
		};
	}

	type Change = (disk: LoopFileSystem) => Promise<unknown>;

	test.each<[claim: string, between: Change, changed: boolean]>([
		["that nobody touched did not change", async () => undefined, false],
		["that was read did not change", ({ mountPoint }) => readFile(join(mountPoint, "kernel")), false],
		[
			"that was written to did",
			async ({ mountPoint }) => {
				await appendFile(join(mountPoint, "kernel"), "x");
				await execa("sync", ["-f", mountPoint]);
			},
			true,
		],
		[
			"that was written to in the page cache only did",
			({ mountPoint }) => appendFile(join(mountPoint, "kernel"), "x"),
			true,
		],
		[
			"whose device was written to past it did",
			({ device }) => execa("dd", ["if=/dev/zero", `of=${device}`, "bs=1024", "count=1", "conv=fsync"]),
			true,
		],
	])("one %s", async (_claim, between, changed) => {
		const calls = await loadFreezeCalls();
		const [{ disk, leftOut }, other] = [await makeStill(), await makeStill()];
		const all = [leftOut, other.leftOut];
		const before = await countWritesBefore(all, calls, signal);
		expect([...before.values()]).toEqual([expect.any(Number), expect.any(Number)]);
		await between(disk);
		expect(await findChanged(all, before, calls, signal)).toEqual(changed ? [leftOut] : []);
	});

	test("what is dirty when it is counted was written before, and is no change", async () => {
		const calls = await loadFreezeCalls();
		const { disk, leftOut } = await makeStill();
		await appendFile(join(disk.mountPoint, "kernel"), Buffer.alloc(1_000_000, 2));
		const before = await countWritesBefore([leftOut], calls, signal);
		expect(await findChanged([leftOut], before, calls, signal)).toEqual([]);
	});

	test.each<[why: string, broken: Partial<LeftOutFileSystem>]>([
		["has no counter", { deviceNumbers: ["4095:1048575"] }],
		["has no device", { deviceNumbers: [] }],
		["can't be opened", { reaches: [{ mountPoint: "/nowhere", openPath: "/var/lib/stillpoint-test-nowhere" }] }],
		["can't be reached", { reaches: [] }],
	])("one that %s counts as changed, before and after", async (_why, broken) => {
		const calls = await loadFreezeCalls();
		const { leftOut } = await makeStill();
		const unreadable = { ...leftOut, ...broken };
		expect(
			await findChanged([unreadable], await countWritesBefore([unreadable], calls, signal), calls, signal),
		).toEqual([unreadable]);
		const [counted] = (await countWritesBefore([leftOut], calls, signal)).values();
		if (counted === undefined) throw new Error("not counted");
		expect(await findChanged([unreadable], new Map([[unreadable, counted]]), calls, signal)).toEqual([unreadable]);
	});

	test("one whose device does not count its writes counts as changed", async () => {
		const calls = await loadFreezeCalls();
		const { disk, leftOut } = await makeStill();
		await writeFile(`/sys/block/${nameOf(disk)}/queue/iostats`, "0");
		bench.defer(() => writeFile(`/sys/block/${nameOf(disk)}/queue/iostats`, "1"));
		const before = await countWritesBefore([leftOut], calls, signal);
		expect(await findChanged([leftOut], before, calls, signal)).toEqual([leftOut]);
	});

	describe("beside one that was frozen all along", () => {
		test.each<[claim: string, between: Change, level: string, because: string[]]>([
			["lowers nothing when it did not change", async () => undefined, "file-system", []],
			[
				"lowers its disk when it did, and not the other",
				({ mountPoint }) => appendFile(join(mountPoint, "kernel"), "x"),
				"crash",
				["unsupported-file-system"],
			],
		])("%s", async (_claim, between, level, because) => {
			const calls = await loadFreezeCalls();
			const { disk, leftOut } = await makeStill();
			const record = await heldRecord([bench.one, disk], leftOut);
			const counts = await countWritesBefore([leftOut], calls, signal);
			await between(disk);
			await lookAgain({ record, calls: Promise.resolve(calls) }, counts);
			const verdict = judge(record.evidence());
			const disks = Object.fromEntries(verdict.disks.map((one) => [one.name, one]));
			expect(disks[nameOf(disk)]).toMatchObject({ held: level, because });
			expect(disks[nameOf(bench.one)]).toMatchObject({ held: "file-system", because: [] });
		});

		test("lowers its disk when nobody counted before", async () => {
			const { disk, leftOut } = await makeStill();
			const record = await heldRecord([bench.one, disk], leftOut);
			await lookAgain({ record, calls: loadFreezeCalls() }, new Map());
			expect(judge(record.evidence())).toMatchObject({ held: "crash", because: ["unsupported-file-system"] });
		});
	});

	/** The record of a job that went well, whose plan has one file system that was not frozen. */
	async function heldRecord(disks: readonly LoopFileSystem[], leftOut: LeftOutFileSystem): Promise<JobRecord> {
		const order = orderSchema.parse({
			...bench.order({ level: "file-system", snapshot: "unknown" }),
			disks: { include: disks.map(nameOf) },
		});
		const request: SnapshotRequest = {
			schemaVersion: 1,
			order,
			holdLimitMs: order.holdLimitMs,
			fileSystems: { include: [], exclude: [] },
			tempDisks: [],
			scriptsFolder: "/dev/shm",
			otherScripts: noOtherScripts,
			runFolder: "/dev/shm",
			hostFolders: [],
			statusFile: "/dev/shm/status",
			extension: { name: "VMSnapshotLinux", version: "1.0" },
			channel: { socketPath: "/dev/shm/none", token: "none" },
		};
		const record = new JobRecord(request, systemClock());
		const plan = await planJob(request, await loadFreezeCalls(), signal);
		const targets = plan.targets.filter(({ superblock }) => superblock !== leftOut.superblock);
		record.plan = {
			...plan,
			targets,
			disks: plan.disks.map((disk) => ({
				...disk,
				superblocks: disk.superblocks.filter((superblock) => superblock !== leftOut.superblock),
			})),
			maybeStill: [leftOut],
		};
		for (const { superblock } of targets) {
			record.answers.note({ type: "fileSystem", superblock, result: "frozen", startedAtMs: 1, endedAtMs: 2 });
			record.answers.noteThaw(superblock, { result: "thawed", startedAtMs: 5, endedAtMs: 6 });
		}
		record.window = { fromMs: 3, untilMs: 4 };
		return record;
	}
});
