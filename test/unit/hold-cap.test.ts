import { expect, test } from "vitest";
import { cappedHoldMs } from "../../agent/hold-cap.ts";

test.each([
	["application", 90_000, 60_000],
	["file-system", 90_000, 60_000],
	["file-system", 5_000, 5_000],
	["crash", 900_000, 900_000],
] as const)("the cap of 60 s makes an order of level %s with %i ms hold %i ms", (level, holdLimitMs, expected) => {
	expect(cappedHoldMs({ level, holdLimitMs }, 60_000)).toBe(expected);
});
