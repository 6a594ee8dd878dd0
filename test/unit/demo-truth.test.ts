import { describe, expect, test } from "vitest";
import { findFaults, renderTruth, type SnapshotTruth } from "../../demo/snapshot-truth.ts";
import { acknowledgedBefore, longestStallMs } from "../../demo/writers.ts";

/** As much of a snapshot as the judgement looks at. */
function truth(
	level: "application" | "file-system" | "crash",
	verification: { agrees: boolean; looksLike: "crash" | "file-system" },
	writer: { acknowledgedBefore: number; found: number } = { acknowledgedBefore: 10, found: 12 },
): SnapshotTruth {
	return {
		job: { level } as SnapshotTruth["job"],
		verification: verification as SnapshotTruth["verification"],
		writers: [{ path: "/a", kind: "file", longestStallMs: 5, ...writer }],
	};
}

const good = truth("application", { agrees: true, looksLike: "file-system" });
const bad = truth("crash", { agrees: true, looksLike: "crash" });

describe("the demo's judgement", () => {
	test("a held snapshot and a bad one that are what they say have no faults", () => {
		expect(findFaults(good, bad)).toEqual([]);
		expect(renderTruth(good, bad)).toContain("application");
	});

	test.each([
		["a held snapshot of a lower level", truth("file-system", { agrees: true, looksLike: "file-system" }), bad],
		[
			"a held snapshot that the verification contradicts",
			truth("application", { agrees: false, looksLike: "file-system" }),
			bad,
		],
		["a held snapshot that looks like a crash", truth("application", { agrees: true, looksLike: "crash" }), bad],
		[
			"an acknowledged commit that is missing",
			truth("application", { agrees: true, looksLike: "file-system" }, { acknowledgedBefore: 10, found: 9 }),
			bad,
		],
		[
			"a writer that wrote nothing",
			truth("application", { agrees: true, looksLike: "file-system" }, { acknowledgedBefore: 0, found: 0 }),
			bad,
		],
		["no writers at all", { ...good, writers: [] }, bad],
		["a bad snapshot with a label of the held one", good, truth("file-system", { agrees: true, looksLike: "crash" })],
		["a bad snapshot that looks held", good, truth("crash", { agrees: true, looksLike: "file-system" })],
		["a bad snapshot that the verification contradicts", good, truth("crash", { agrees: false, looksLike: "crash" })],
	])("%s is one fault", (_name, first, second) => {
		expect(findFaults(first, second)).toHaveLength(1);
	});
});

describe("what writers felt", () => {
	test("the longest gap that overlaps the job counts, also one that began before it", () => {
		const history = { monotonicMs: [0, 500, 510, 900, 910, 3000] };
		expect(longestStallMs(history, 505, 905)).toBe(390);
		expect(longestStallMs(history, 100, 505)).toBe(500);
		expect(longestStallMs(history, 920, 2000)).toBe(2090);
	});

	test("a commit at the very instant of the freeze was not acknowledged before it", () => {
		expect(acknowledgedBefore({ acknowledgedAt: [1, 2, 3] }, 3)).toBe(2);
		expect(acknowledgedBefore({ acknowledgedAt: [] }, 3)).toBe(0);
	});
});
