/** A stall budget on real file systems: what is refused is refused before anything is frozen or any script has run. */
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { type LoopFileSystem, requireTools, startGuard } from "../fixtures/loop-file-system.ts";
import { lacksForSlowDisk, openSlowDisk } from "../fixtures/slow-disk.ts";
import { takeSnapshot, toFrozen, untilWritable } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze");

describe.skipIf(missing)(`how long writers may be stopped${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const { start, defer } = bench;
	let one: LoopFileSystem;
	beforeAll(() => {
		one = bench.one;
	});

	test("a snapshot that takes longer is refused: no script ran, nothing was frozen, and nothing is waited for", async () => {
		const folder = join(bench.dir, "scripts.d");
		const ran = join(bench.dir, "ran");
		await mkdir(folder, { mode: 0o700 });
		await mkdir(ran);
		const pre = { command: ["/usr/bin/touch", join(ran, "pre")] };
		await writeFile(join(folder, "shop.json"), JSON.stringify({ version: 1, application: "shop", pre, post: pre }), {
			mode: 0o600,
		});
		const order = {
			level: "application",
			stall: { budgetMs: 300, waitMs: 3_600_000 },
			prepareLimitMs: 3_600_000,
		} as const;
		const host = await start([one], order, { request: { stallBudgetMs: 300, scriptsFolder: folder } });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId, predictedMs: 5_000 });
		const report = await host.report();
		expect(report).toMatchObject({ achieved: "none", error: { code: "stall-too-long", retryable: true } });
		expect(report.error?.message).toContain("5000 ms for the snapshot itself");
		expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
		expect(report.window).toBeUndefined();
		expect(await readdir(ran)).toEqual([]);
	});

	test("the machine's own budget binds an order that has none", async () => {
		const host = await start([one], {}, { request: { stallBudgetMs: 1 } });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		expect((await host.report()).error?.code).toBe("stall-too-long");
		expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
	});

	test("not even an order that accepts level crash goes on: it was said that it should be refused", async () => {
		const host = await start([one], { acceptLevel: "crash" }, { request: { stallBudgetMs: 1 } });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		expect((await host.report()).error?.code).toBe("stall-too-long");
	});

	const lacksSlow = lacksForSlowDisk();
	test.skipIf(lacksSlow)(`a freeze that takes longer is undone${lacksSlow ? `: ${lacksSlow}` : ""}`, async () => {
		const dir = await mkdtemp("/var/lib/stillpoint-test-");
		defer(() => rm(dir, { recursive: true, force: true }));
		const guard = startGuard({ dir, limitMs: 60_000 });
		defer(() => guard[Symbol.dispose]());
		const disk = await openSlowDisk({ dir, fsType: "ext4", mode: "delay", writeDelayMs: 1_500 });
		defer(() => disk[Symbol.asyncDispose]());
		const host = await start([disk], {}, { request: { stallBudgetMs: 800 }, quiet: false });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		// Everything is written out by now, and the prediction fits.
		await host.event("freezing");
		await disk.strike();
		host.tell({ type: "quiet", jobId: host.jobId });
		const report = await host.report();
		await disk.release();
		expect(report).toMatchObject({ achieved: "none", error: { code: "stall-too-long" } });
		expect(report.error?.message).toContain("was undone");
		expect(host.events.some(({ type }) => type === "frozen")).toBe(false);
		await untilWritable(disk);
	});

	test("what fits is frozen, and its report tells what was predicted and what came", async () => {
		const host = await start([one], {}, { request: { stallBudgetMs: 60_000 } });
		await toFrozen(host);
		const report = await takeSnapshot(host, [one]);
		expect(report).toMatchObject({ achieved: "file-system", because: [] });
		const { window } = report;
		expect(window?.predictedStallMs).toBeGreaterThan(0);
		const longest = (window?.freezeMs ?? 0) + (window?.heldMs ?? 0) + (window?.thawMs ?? 0);
		expect(window?.stallMs).toBeGreaterThanOrEqual(window?.heldMs ?? 0);
		expect(window?.stallMs).toBeLessThanOrEqual(longest + 0.01);
	});

	test("an order that names no budget is told the same", async () => {
		const host = await start([one]);
		await toFrozen(host);
		expect((await takeSnapshot(host, [one])).window?.predictedStallMs).toBeGreaterThan(0);
	});
});
