import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { FakeAgent, FakeAgentOptions } from "../fakes/fake-agent.ts";
import {
	addFakeAgent,
	type ControllerRun,
	makeImage,
	makeTestFolder,
	startController,
} from "../fixtures/controller-run.ts";
import {
	attachLoop,
	type LoopFileSystem,
	type LoopFileSystemType,
	makeLoopFileSystem,
	requireTools,
	startGuard,
} from "../fixtures/loop-file-system.ts";

const mib = 1024 * 1024;
const undo: AsyncDisposableStack[] = [];
let dir: string;

beforeEach(async () => {
	const stack = new AsyncDisposableStack();
	undo.push(stack);
	const folder = stack.use(await makeTestFolder("/var/lib"));
	dir = folder.path;
	stack.use(startGuard({ dir, limitMs: 120_000 }));
});
afterEach(async () => {
	for (const stack of undo.splice(0)) await stack.disposeAsync();
});

const defer = <T extends AsyncDisposable>(value: T): T => (undo[0] as AsyncDisposableStack).use(value);

async function makeHome(fsType: LoopFileSystemType, sizeMiB: number): Promise<LoopFileSystem> {
	return defer(await makeLoopFileSystem({ dir, fsType, sizeMiB, name: fsType }));
}
async function start(stateDir: string, images: Record<string, string>, options: Partial<FakeAgentOptions> = {}) {
	const controller = defer(await startController(stateDir, { limits: { lateReportMs: 1_000 } }));
	const agent = defer(await addFakeAgent(controller, images, options));
	return { controller, agent };
}
async function snapshot(controller: ControllerRun, agent: FakeAgent) {
	const { jobId } = await controller.client.orderSnapshot(agent.agentId, { holdLimitMs: 60_000 });
	return controller.client.waitForJob(jobId);
}
async function digest(path: string): Promise<string> {
	const hash = createHash("sha256");
	await pipeline(createReadStream(path), hash);
	return hash.digest("hex");
}
const freeBytes = async (path: string) => {
	const { bfree, bsize } = await statfs(path);
	return bfree * bsize;
};

describe.each([
	["btrfs", 400],
	["xfs", 400],
] as const)("image and state folder on one %s", (fsType, sizeMiB) => {
	const missing = requireTools("root", `mkfs.${fsType}`);

	test.skipIf(missing)(`the snapshot shares blocks with the image${missing ? ` (${missing})` : ""}`, async () => {
		const home = await makeHome(fsType, sizeMiB);
		const image = await makeImage(join(home.mountPoint, "a.img"), 256 * mib, [{ offset: mib, length: 150 * mib }]);
		const { controller, agent } = await start(join(home.mountPoint, "state"), { vda: image });
		const job = await snapshot(controller, agent);
		expect(job).toMatchObject({ state: "done" });
		const point = await controller.client.readRecoveryPoint(job.recoveryPointId as string);
		expect(point.disks[0]).toMatchObject({ method: "reflink", sizeBytes: 256 * mib });
		const before = await digest(image);
		const copy = join(home.mountPoint, "state", "recovery-points", point.id, point.disks[0]?.image as string);
		expect(await digest(copy)).toBe(before);
		// A copy would need 150 MiB more.
		expect(await freeBytes(home.mountPoint)).toBeGreaterThan(150 * mib);
		await using file = await open(image, "r+");
		await file.write(Buffer.alloc(mib, 1), 0, mib, mib);
		expect(await digest(copy)).toBe(before);
	});
});

describe("image and state folder on one ext4", () => {
	const missing = requireTools("root", "mkfs.ext4");

	test.skipIf(missing)(`the snapshot is a sparse copy${missing ? ` (${missing})` : ""}`, async () => {
		const home = await makeHome("ext4", 300);
		const image = await makeImage(join(home.mountPoint, "a.img"), 512 * mib, [
			{ offset: 5 * mib, length: 20 * mib },
			{ offset: 500 * mib, length: 3 * mib },
		]);
		const { controller, agent } = await start(join(home.mountPoint, "state"), { vda: image });
		const job = await snapshot(controller, agent);
		const point = await controller.client.readRecoveryPoint(job.recoveryPointId as string);
		expect(point.disks[0]).toMatchObject({ method: "copy", sizeBytes: 512 * mib });
		const copy = join(home.mountPoint, "state", "recovery-points", point.id, point.disks[0]?.image as string);
		expect(await digest(copy)).toBe(await digest(image));
		expect(await freeBytes(home.mountPoint)).toBeGreaterThan(150 * mib);
	});

	test.skipIf(missing)("a block device is copied whole, and its zeros become holes", async () => {
		const backing = await makeImage(join(dir, "disk.img"), 128 * mib + 512, [
			{ offset: 100 * mib + 4096, length: 2 * mib },
		]);
		const device = await attachLoop(backing);
		(undo[0] as AsyncDisposableStack).defer(async () => {
			const { execa } = await import("execa");
			await execa("losetup", ["--detach", device]);
		});
		const home = await makeHome("ext4", 64);
		// 128 MiB of device do not fit into 64: what is counted as data is refused, though most of it is zeros.
		const { controller, agent } = await start(join(home.mountPoint, "state"), { vda: device });
		expect(await snapshot(controller, agent)).toMatchObject({ state: "failed", error: { code: "disk-full" } });

		const roomy = await start(join(dir, "state"), { vda: device });
		const job = await snapshot(roomy.controller, roomy.agent);
		const point = await roomy.controller.client.readRecoveryPoint(job.recoveryPointId as string);
		const copy = join(dir, "state", "recovery-points", point.id, point.disks[0]?.image as string);
		expect(await digest(copy)).toBe(await digest(backing));
		await using file = await open(copy);
		expect((await file.stat()).blocks * 512).toBeLessThan(4 * mib);
	});
});

describe("a state folder without room", () => {
	const missing = requireTools("root", "mkfs.ext4");

	test.skipIf(missing)(`is found before the freeze${missing ? ` (${missing})` : ""}`, async () => {
		const home = await makeHome("ext4", 32);
		const image = await makeImage(join(dir, "a.img"), 64 * mib, [{ offset: 0, length: 40 * mib }]);
		const { controller, agent } = await start(join(home.mountPoint, "state"), { vda: image });
		expect(await snapshot(controller, agent)).toMatchObject({ state: "failed", error: { code: "disk-full" } });
		expect(agent.story).not.toContain("frozen");
	});

	test.skipIf(missing)(
		"is found during the copy: all copies stop, the agent is released, no folder stays",
		async () => {
			const home = await makeHome("ext4", 128);
			const stateDir = join(home.mountPoint, "state");
			await mkdir(stateDir, { mode: 0o700 });
			const images = {
				vda: await makeImage(join(dir, "a.img"), 64 * mib, [{ offset: 0, length: 30 * mib }]),
				vdb: await makeImage(join(dir, "b.img"), 64 * mib, [{ offset: 0, length: 30 * mib }]),
			};
			async function fill(): Promise<void> {
				await using file = await open(join(home.mountPoint, "filler"), "w");
				const piece = Buffer.alloc(4 * mib, 1);
				while ((await freeBytes(home.mountPoint)) > 24 * mib) await file.write(piece);
			}
			const { controller, agent } = await start(stateDir, images, { whenFrozen: fill });
			const job = await snapshot(controller, agent);
			expect(job).toMatchObject({ state: "failed", error: { code: "disk-full", retryable: true } });
			expect(agent.story).toContain("frozen");
			expect(agent.story).toContain("thaw:snapshot-failed");
			expect(agent.story).not.toContain("done");
			expect(await readdir(join(stateDir, "recovery-points"))).toEqual([]);
			expect(agent.violations).toEqual([]);
		},
	);
});
