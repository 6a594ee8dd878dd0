import { describe, expect, test } from "vitest";
import { windowOf } from "../../bench/freeze/freezer-events.ts";
import { feltBy, longestGap } from "../../bench/freeze/gaps.ts";
import { judgeGoals } from "../../bench/freeze/goals.ts";
import { createProbeSetup, noteDone, readDoneAt } from "../../bench/freeze/probe-samples.ts";
import { findStrangers } from "../../bench/freeze/qemu-ga-contender.ts";
import { laterHalf, slopeOf } from "../../bench/growth.ts";
import { createRandom, shuffled } from "../../bench/random-order.ts";
import type { FreezerEvent } from "../../contracts/freezer-protocol.ts";

const steady = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20];

describe("what a writer felt", () => {
	test.each([
		["nothing was written", []],
		["nothing was written before", [5, 30]],
		["nothing was written after", [0, 12]],
		["the last write is no number", [0, Number.NaN]],
	])("is not told when %s", (_what, doneAt) => {
		expect(() => longestGap(doneAt, { fromMs: 4, untilMs: 20 })).toThrow(RangeError);
	});

	test("is the whole stall, also what of it lies before and after the freeze", () => {
		expect(longestGap([0, 2, 40, 42], { fromMs: 10, untilMs: 20 })).toEqual({ beganAtMs: 2, lengthMs: 38 });
	});

	test("is not a longer stall that was over before, or began afterwards", () => {
		const doneAt = [0, 50, 52, 55, 57, 120];
		expect(longestGap(doneAt, { fromMs: 52.5, untilMs: 56 })).toEqual({ beganAtMs: 52, lengthMs: 3 });
		expect(longestGap(doneAt, { fromMs: 49, untilMs: 56 }).lengthMs).toBe(50);
	});

	test("of several is that of the worst off, in the freeze and in the job", () => {
		const stopped = [0, 2, 4, 13, 15, 17, 20];
		const frozen = { fromMs: 5, untilMs: 12 };
		const felt = feltBy([steady, stopped], frozen, { fromMs: 0, untilMs: 18 });
		expect(felt).toEqual({ frozenStallMs: 9, jobStallMs: 9, skewMs: 0 });
		const early = [0, 7.5, 8, 10, 12, 14, 20];
		expect(feltBy([early], { fromMs: 9, untilMs: 11 }, { fromMs: 0, untilMs: 13 })).toMatchObject({
			frozenStallMs: 2,
			jobStallMs: 7.5,
		});
	});

	test("one file system after another is skew; all at once is none", () => {
		const frozen = { fromMs: 2, untilMs: 19 };
		const [first, last] = [
			[0, 2, 19.5, 20],
			[0, 2, 4, 6, 8, 19.5, 20],
		];
		expect(feltBy([first, last], frozen, frozen).skewMs).toBe(6);
		expect(feltBy([first, first], frozen, frozen).skewMs).toBe(0);
	});
});

describe("the samples of a probe", () => {
	test("reach back to the write before the instant that is asked for", () => {
		const setup = createProbeSetup("/nowhere", 2);
		for (const [count, atMs] of steady.entries()) noteDone(setup, count, atMs);
		expect(readDoneAt(setup, 15)).toEqual([14, 16, 18, 20]);
		expect(readDoneAt(setup, -1)).toEqual(steady);
		expect(readDoneAt(createProbeSetup("/nowhere", 2), 0)).toEqual([]);
	});

	test("that the ring has forgotten are not made up", () => {
		const setup = { control: new SharedArrayBuffer(8), doneAt: new SharedArrayBuffer(4 * 8) };
		for (let count = 0; count < 10; count += 1) noteDone(setup, count, count);
		expect(readDoneAt(setup, 0)).toEqual([7, 8, 9]);
		expect(() => longestGap(readDoneAt(setup, 0), { fromMs: 5, untilMs: 8 })).toThrow(RangeError);
	});
});

describe("the freezer's own window", () => {
	const answer = (result: "frozen" | "thawed", startedAtMs: number, endedAtMs: number): FreezerEvent => {
		return { type: "fileSystem", superblock: "7:1", result, startedAtMs, endedAtMs };
	};

	test("is from the first freeze call to the last thaw answer", () => {
		const events = [answer("frozen", 1, 3), answer("frozen", 1.5, 4), answer("thawed", 9, 10), answer("thawed", 9, 11)];
		expect(windowOf(events)).toMatchObject({
			frozen: { fromMs: 1, untilMs: 11 },
			own: { freezeMs: 3, heldMs: 5, thawMs: 2, frozenMs: 10, skewMs: 1, slowestFreezeMs: 2.5, expedited: 0 },
		});
	});

	test("is none when not all was thawed", () => {
		expect(() => windowOf([answer("frozen", 1, 3), answer("frozen", 1, 3), answer("thawed", 4, 5)])).toThrow("2 were");
		expect(() => windowOf([])).toThrow("0 were");
	});
});

describe("goals", () => {
	const felt = (frozenStallMs: number, jobStallMs = frozenStallMs) => ({ frozenStallMs, jobStallMs, skewMs: 0 });
	const verdicts = (goals: { isMet: boolean }[]) => goals.map(({ isMet }) => isMet);

	test("a ratio is met at its limit and missed above", () => {
		expect(verdicts(judgeGoals({ goalRatio: 1 / 15 }, { agent: felt(10, 150), qemuGa: felt(150) }))).toEqual([
			true,
			true,
		]);
		expect(verdicts(judgeGoals({ goalRatio: 1 / 15 }, { agent: felt(11, 151), qemuGa: felt(150) }))).toEqual([
			false,
			false,
		]);
	});

	test("no number is a goal missed", () => {
		expect(verdicts(judgeGoals({ goalRatio: 1 }, { agent: felt(Number.NaN), qemuGa: felt(150) }))).toEqual([
			false,
			false,
		]);
		expect(verdicts(judgeGoals({ goalRatio: 1 }, { agent: felt(0), qemuGa: felt(0) }))).toEqual([false, true]);
	});

	test("more file systems may cost a few times more, when the fewer were measured", () => {
		const wanted = { goalRatio: 1, goalTimes: { factor: 3, caseName: "few" } };
		const many = { agent: felt(31), qemuGa: felt(1000) };
		const few = new Map([["few", { agent: felt(10), qemuGa: felt(200) }]]);
		expect(judgeGoals(wanted, many, few)).toContainEqual({ what: "at most 3 times few", isMet: false });
		expect(judgeGoals(wanted, { ...many, agent: felt(30) }, few)).toContainEqual({
			what: "at most 3 times few",
			isMet: true,
		});
		expect(judgeGoals(wanted, many)).toHaveLength(2);
	});
});

describe("who qemu-ga would thaw", () => {
	test("ours and what they lie in are no strangers, anything else is", () => {
		const ours = ["/dev/shm/bench/fs-01", "/dev/shm/bench/fs-01/fs-02"];
		expect(findStrangers(["/", "/dev/shm", ...ours], ours)).toEqual([]);
		expect(findStrangers(["/", "/srv", "/dev/shm/bench/fs-0", "/dev/shm/bench/fs-01/x"], ours)).toEqual([
			"/srv",
			"/dev/shm/bench/fs-0",
			"/dev/shm/bench/fs-01/x",
		]);
	});
});

describe("growth", () => {
	test("is the slope of the later half, whatever the program took to begin with", () => {
		const series = [0, 100, 190, 200, 205, 210, 215, 220].map((y, x) => ({ x, y }));
		expect(slopeOf(laterHalf(series))).toBeCloseTo(5);
		expect(slopeOf(series)).toBeGreaterThan(20);
		expect(slopeOf(series.map(({ x }) => ({ x, y: 7 })))).toBe(0);
		expect(slopeOf([{ x: 3, y: 5 }])).toBe(0);
	});
});

describe("the order of the contenders", () => {
	test("follows from the seed, and holds each of them once", () => {
		const orders = (seed: number) => {
			const random = createRandom(seed);
			return Array.from({ length: 20 }, () => shuffled(["a", "b", "c", "d"], random).join(""));
		};
		expect(orders(1)).toEqual(orders(1));
		expect(orders(1)).not.toEqual(orders(2));
		expect(new Set(orders(1)).size).toBeGreaterThan(5);
		expect(orders(3).map((one) => [...one].sort().join(""))).toEqual(Array.from({ length: 20 }, () => "abcd"));
	});
});
