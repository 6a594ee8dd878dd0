import { describe, expect, test } from "vitest";
import { parseDirtyBytes, parseWriteSpeed, predictStallMs } from "../../platform/linux/predict-stall.ts";

const fs = (level: number, writeOutMs: number) => ({ level, writeOutMs });

describe("how long writers will be stopped", () => {
	test("is the snapshot and the freeze", () => {
		const fileSystems = [fs(0, 0)];
		const alone = predictStallMs({ fileSystems, expedited: true });
		expect(predictStallMs({ fileSystems, expedited: true, snapshotMs: 500 })).toBe(alone + 500);
		expect(predictStallMs({ fileSystems, expedited: false })).toBeGreaterThan(alone + 30);
	});

	test("counts the longest write-out of a level twice, and the levels one after the other", () => {
		const none = predictStallMs({ fileSystems: [fs(0, 0), fs(0, 0)], expedited: true });
		expect(predictStallMs({ fileSystems: [fs(0, 80), fs(0, 30)], expedited: true })).toBe(none + 160);
		const two = predictStallMs({ fileSystems: [fs(0, 0), fs(1, 0)], expedited: true });
		expect(two).toBeGreaterThan(none);
		expect(predictStallMs({ fileSystems: [fs(0, 80), fs(1, 30)], expedited: true })).toBe(two + 220);
	});

	test("grows a little with each file system", () => {
		const many = Array.from({ length: 32 }, () => fs(0, 0));
		const difference =
			predictStallMs({ fileSystems: many, expedited: true }) -
			predictStallMs({ fileSystems: [fs(0, 0)], expedited: true });
		expect(difference).toBeGreaterThan(1);
		expect(difference).toBeLessThan(40);
	});

	test("unwritten data and the speed of a disk are read, and no speed is made of nothing", () => {
		expect(parseDirtyBytes("Dirty:            2048 kB\nWriteback:        1024 kB\nWritebackTmp: 9 kB\n")).toBe(
			3 * 1024 * 1024,
		);
		expect(parseDirtyBytes("")).toBe(0);
		expect(parseWriteSpeed(`1 0 8 1 5 0 ${256 * 2048} 1000 0 1 1`)).toBe(256 * 1024 * 1024);
		for (const text of ["1 0 8 1 5 0 Infinity 1000", "", "1 0 8 1 5 0 100 1000 0", `1 0 8 1 5 0 ${256 * 2048} 0 0`])
			expect(parseWriteSpeed(text)).toBeUndefined();
	});
});
