import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { RoundOutcome } from "../guest/fault-sweep/run-round.ts";
import { findSweepPlan, openSweepState, type SweepPlan } from "../guest/fault-sweep/sweep-state.ts";

const plan: SweepPlan = { seed: 5, shapes: ["flat"] };
const outcome = (index: number): RoundOutcome => ({
	index,
	hit: "frozen",
	attempts: 1,
	misses: [],
	phase: "frozen",
	note: "",
	longestWriteMs: 1,
	tookMs: 1,
	starvedMs: 0,
	faults: [],
	spoils: false,
});

test("a sweep that was interrupted goes on with what it has done, a torn last line aside", () => {
	const folder = mkdtempSync(join(tmpdir(), "stillpoint-test-sweep-"));
	const path = join(folder, "deep", "sweep-5.jsonl");
	expect(findSweepPlan(path)).toBeUndefined();
	const first = openSweepState(path, plan);
	first.add(outcome(0));
	first.add(outcome(4));
	appendFileSync(path, '{"index":2,"hi');
	expect(findSweepPlan(path)).toEqual(plan);
	const next = openSweepState(path, plan);
	expect([...next.done.keys()]).toEqual([0, 4]);
	next.add(outcome(2));
	expect([...openSweepState(path, plan).done.keys()]).toEqual([0, 4, 2]);
	expect(() => openSweepState(path, { ...plan, seed: 6 })).toThrow(/another sweep/);
	rmSync(folder, { recursive: true });
});
