import { beforeAll, describe, expect, test } from "vitest";
import { freeze, type LoopFileSystem, requireTools, thaw } from "../fixtures/loop-file-system.ts";
import { isWritable, takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze");

describe.skipIf(missing)(`a freeze of somebody else${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const { make, start, defer } = bench;
	let one: LoopFileSystem;
	beforeAll(() => {
		one = bench.one;
	});

	describe("a foreign freeze", () => {
		test("is left alone and named", async () => {
			const other = await make("ext4");
			await freeze(other.mountPoint);
			const host = await start([one, other]);
			const report = await host.report();
			expect(report.error?.code).toBe("foreign-freeze");
			expect(report.error?.message).toContain(other.mountPoint);
			expect(await thaw(other.mountPoint), "was left frozen by its owner").toBe(true);
		});

		test("that comes between the probe and our freeze gives level crash where that is accepted", async () => {
			const other = await make("ext4");
			const host = await start([one, other], { acceptLevel: "crash" });
			await host.event("prepared");
			await freeze(other.mountPoint);
			// The last sync waits for nobody: syncfs of a frozen file system that is clean returns.
			await toFrozen(host);
			expect((await host.event("frozen")).worth).toBe("crash");
			expect(await isWritable(one)).toBe(true);
			const report = await takeSnapshot(host, [one, other]);
			expect(report).toMatchObject({ achieved: "crash" });
			expect(report.because).toContain("foreign-freeze");
			expect(await thaw(other.mountPoint), "was left frozen by its owner").toBe(true);
		});
	});

	test("a lower layer that somebody else has frozen ends the job, and the process with it", async () => {
		const lower = await make("ext4");
		const upper = await make("ext4", { dir: lower.mountPoint });
		await freeze(lower.mountPoint);
		defer(async () => void (await thaw(lower.mountPoint)));
		const host = await start([lower], { prepareLimitMs: 15_000 });
		expect((await host.report()).error?.code).toBe("foreign-freeze");
		expect(await host.exited).toBeGreaterThan(-1);
		expect(await thaw(lower.mountPoint)).toBe(true);
		expect(await thaw(upper.mountPoint)).toBe(false);
	}, 40_000);
});
