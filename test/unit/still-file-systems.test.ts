import { describe, expect, test } from "vitest";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import { orderSchema } from "../../contracts/order.ts";
import { judge } from "../../extensions/vm-snapshot-linux/consistency-verdict.ts";
import { JobRecord } from "../../extensions/vm-snapshot-linux/job-record.ts";
import { lookAgain } from "../../extensions/vm-snapshot-linux/look-again.ts";
import type { JobPlan } from "../../extensions/vm-snapshot-linux/plan-job.ts";
import { countWritesBefore, findChanged } from "../../extensions/vm-snapshot-linux/still-file-systems.ts";
import type { LeftOutFileSystem } from "../../platform/linux/freeze-plan.ts";

/** An EFI partition on `vda`; the folder exists on every machine, and nothing is written to it. */
const efi: LeftOutFileSystem = {
	superblock: "8:1",
	fsType: "vfat",
	device: "/dev/vda1",
	mountPoint: "/boot/efi",
	disks: ["vda"],
	spans: false,
	why: "unsupported-file-system",
	writable: true,
	deviceNumbers: ["4095:1048575"],
	reaches: [{ mountPoint: "/boot/efi", openPath: "/" }],
};

describe("a file system that may have stood still", () => {
	test("of which nothing could be learnt after the thaw lowers its disk, and no other", async () => {
		const record = heldRecord();
		await lookAgain({ record, calls: Promise.reject(new Error("no calls")) }, new Map([[efi, 7]]));
		// That the mount table was not read again lowers every disk; the partition is named beside it.
		const verdict = judge({ ...record.evidence(), lookedAgain: true });
		expect(verdict.disks).toMatchObject([
			{ name: "vda", held: "crash", because: ["unsupported-file-system"] },
			{ name: "vdb", held: "file-system", because: [] },
		]);
		expect(judge(record.evidence()).held).toBe("crash");
	});

	test("lowers nothing as long as nobody says that it changed", () => {
		expect(judge({ ...heldRecord().evidence(), lookedAgain: true }).held).toBe("file-system");
	});

	test("whose sync fails is not counted, says why, and so it changed", async () => {
		const calls = { sync: () => Promise.resolve("EIO") };
		const { signal } = new AbortController();
		const before = await countWritesBefore([efi], calls, signal);
		expect([...before.values()]).toEqual([expect.stringContaining("EIO")]);
		expect(await findChanged([efi], before, calls, signal)).toEqual([efi]);
		expect(await findChanged([efi], new Map([[efi, 7]]), calls, signal)).toEqual([efi]);
	});

	test("whose sync hangs is waited for no longer than the signal says", async () => {
		const calls = { sync: () => new Promise<undefined>(() => undefined) };
		await expect(countWritesBefore([efi], calls, AbortSignal.timeout(20))).rejects.toMatchObject({
			name: "TimeoutError",
		});
	});
});

function heldRecord(): JobRecord {
	const order = orderSchema.parse({
		jobId: "job-1",
		level: "file-system",
		acceptLevel: "crash",
		disks: { include: ["vda", "vdb"] },
		snapshot: "unknown",
	});
	const record = new JobRecord({ order } as SnapshotRequest, { nowMs: () => 0, utcNow: () => new Date(0) });
	const disk = { included: true, superblocks: [], fileSystemUuids: [] };
	record.plan = {
		targets: [],
		disks: [
			{ name: "vda", ...disk },
			{ name: "vdb", ...disk },
		],
		uncovered: [],
		maybeStill: [efi],
	} as unknown as JobPlan;
	record.window = { fromMs: 1, untilMs: 2 };
	return record;
}
