import { rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { type LoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { inPhase, isWritable, outcomes, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";
import { startTestHost } from "../fixtures/snapshot-host.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze");

describe.skipIf(missing)(`what an asker may do to a job${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const { start, order, defer } = bench;
	let one: LoopFileSystem;
	beforeAll(() => {
		one = bench.one;
	});

	describe("a cancel", () => {
		test("while FIFREEZE runs", async () => {
			const host = await start([one], {}, { quiet: false });
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			await host.event("freezing");
			host.tell({ type: "quiet", jobId: host.jobId });
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			expect(await host.report()).toMatchObject({ achieved: "none", error: { code: "cancelled" } });
			expect(await isWritable(one)).toBe(true);
		});

		test("before the plan", async () => {
			const host = await start([one]);
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			expect((await host.report()).error?.code).toBe("cancelled");
			expect(await host.exited).toBe(0);
		});

		test.each(["preparing", "prepared"] as const)("in phase %s", async (phase) => {
			const host = await start([one]);
			await inPhase(host, phase);
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			const report = await host.report();
			expect(report).toMatchObject({ achieved: "none", held: "none", error: { code: "cancelled" } });
			expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
		});

		test("while the host has not yet answered quiet", async () => {
			const host = await start([one], {}, { quiet: false });
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			await host.event("freezing");
			host.tell({ type: "cancel", jobId: host.jobId, code: "asker-lost" });
			expect((await host.report()).error?.code).toBe("asker-lost");
			await host.event("thawed");
			expect(host.events.some(({ type }) => type === "frozen")).toBe(false);
		});

		test("while frozen", async () => {
			const host = await start([one]);
			await toFrozen(host);
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			expect(await host.report()).toMatchObject({ achieved: "none", error: { code: "cancelled" } });
			expect(await isWritable(one)).toBe(true);
		});

		test("after the thaw comes too late to change anything but the proof", async () => {
			const host = await start([one], { acceptLevel: "crash" });
			await toFrozen(host);
			host.tell({ type: "done", jobId: host.jobId, disks: outcomes([one]) });
			await host.event("thawed");
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			const report = await host.report();
			expect(report).toMatchObject({ achieved: "crash", held: "file-system", because: ["mapping-unproved"] });
			expect(report.error).toBeUndefined();
		});
	});

	test("a host that does not become quiet stops the job before anything is frozen", async () => {
		const host = await start([one], {}, { quiet: false });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		expect((await host.report()).error?.code).toBe("deadline-passed");
		expect(host.events.some(({ type }) => type === "frozen")).toBe(false);
	});

	test("an asker that never says freeze stops the job when its time is over", async () => {
		const host = await start([one], { prepareLimitMs: 1500 });
		expect((await host.report()).error?.code).toBe("deadline-passed");
	});

	test("an asker that can't prepare lets go, and its reason is the job's", async () => {
		const host = await start([one]);
		await host.event("prepared");
		host.tell({ type: "release", jobId: host.jobId, error: { code: "copy-too-slow", message: "9 s, 5 s allowed" } });
		expect((await host.report()).error).toMatchObject({ code: "copy-too-slow", message: "9 s, 5 s allowed" });
	});

	test("a run folder on a file system of the order is refused before anything is frozen", async () => {
		const runFolder = join(one.mountPoint, "run");
		defer(() => rm(runFolder, { recursive: true, force: true }));
		const host = await start([one], {}, { request: { runFolder } });
		expect((await host.report()).error?.code).toBe("run-dir-unsafe");
	});

	test("a disk that does not exist is refused", async () => {
		const host = await startTestHost({ order: order({ disks: { include: ["loop9999"] } }) });
		defer(() => host[Symbol.asyncDispose]());
		expect((await host.report()).error?.code).toBe("disk-unknown");
	});
});
