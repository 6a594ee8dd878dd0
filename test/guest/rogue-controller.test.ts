/** A controller that was taken over, and the extension that really freezes: local configuration caps what it can do. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeOrder } from "../fixtures/job-client.ts";
import { type LinkBench, makeLinkBench } from "../fixtures/link-bench.ts";
import { type LoopFileSystem, makeLoopFileSystem, startGuard } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { makeSourceExtension } from "../fixtures/source-extension.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze");
const capMs = 1_500;

describe.skipIf(missing)(`a controller that means ill, and real disks${missing ? `: ${missing}` : ""}`, () => {
	let bench: LinkBench;
	let covered: LoopFileSystem;
	let spared: LoopFileSystem;

	beforeAll(async () => {
		bench = await makeLinkBench();
		const { folders, stack } = bench;
		stack.use(startGuard({ dir: folders.root, limitMs: 110_000 }));
		const make = (name: string) => makeLoopFileSystem({ dir: folders.root, fsType: "ext4", sizeMiB: 32, name });
		[covered, spared] = [stack.use(await make("covered")), stack.use(await make("spared"))];
		folders.writeConfig({
			holdLimitCapMs: capMs,
			extensions: { installFrom: [makeSourceExtension(folders.root)] },
			fileSystems: { include: [{ mountPoint: covered.mountPoint }] },
			scriptsFolder: join(folders.root, "no-scripts"),
		});
		await bench.linked();
	});
	afterAll(() => bench[Symbol.asyncDispose]());

	test("it gets no longer hold than the cap, and no file system that is left out, though it never lets go", async () => {
		const jobId = "good.rogue";
		const include = [covered, spared].map(({ device }) => device.replace("/dev/", ""));
		const order = makeOrder(jobId, { holdLimitMs: 900_000, disks: { include }, acceptLevel: "crash" });
		bench.controller.send({ type: "order", order });
		await poll(() => bench.heard("prepared", jobId), 30_000).toBe(true);
		bench.controller.send({ type: "freeze", jobId });
		await poll(() => bench.heard("frozen", jobId), 30_000).toBe(true);
		expect(bench.sent("frozen")[0]?.leftMs).toBeLessThanOrEqual(capMs);
		const sparedIsWritable = isWritable(spared.mountPoint, 1_000);
		expect(await isWritable(covered.mountPoint, 300), "it is frozen (control)").toBe(false);
		expect(await sparedIsWritable).toBe(true);

		expect(await isWritable(covered.mountPoint, capMs + 2_500)).toBe(true);
		await poll(() => bench.reportsOf(jobId).length, 30_000).toBe(1);
		const report = bench.reportsOf(jobId)[0]?.report;
		expect(report?.error).toMatchObject({ code: "hold-expired" });
		expect(report?.fileSystems.map(({ mountPoint }) => mountPoint)).toEqual([covered.mountPoint]);
		expect(report?.notCovered.map(({ what }) => what)).toContain(spared.mountPoint);
	});
});
