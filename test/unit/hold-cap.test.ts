import { expect, test } from "vitest";
import { cappedHoldMs, cappedStallMs } from "../../agent/hold-cap.ts";

test.each([
	["application", 90_000, 60_000],
	["file-system", 90_000, 60_000],
	["file-system", 5_000, 5_000],
	["crash", 900_000, 900_000],
] as const)("the cap of 60 s makes an order of level %s with %i ms hold %i ms", (level, holdLimitMs, expected) => {
	expect(cappedHoldMs({ level, holdLimitMs }, 60_000)).toBe(expected);
});

test.each([
	["an order's budget below the cap", { level: "application", stall: { budgetMs: 300, waitMs: 0 } }, 500, 300],
	["an order's budget above the cap", { level: "application", stall: { budgetMs: 900, waitMs: 0 } }, 500, 500],
	["the cap alone", { level: "file-system" }, 500, 500],
	["an order's budget without a cap", { level: "file-system", stall: { budgetMs: 900, waitMs: 0 } }, null, 900],
	["nobody's word", { level: "file-system" }, null, undefined],
	["level crash, which stops nobody", { level: "crash", stall: { budgetMs: 1, waitMs: 0 } }, 1, undefined],
] as const)("%s is the stall budget", (_claim, order, capMs, expected) => {
	expect(cappedStallMs(order, capMs)).toBe(expected);
});
