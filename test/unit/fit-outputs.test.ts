import { describe, expect, test } from "vitest";
import type { ScriptReport } from "../../contracts/report.ts";
import { fitOutputs } from "../../extensions/vm-snapshot-linux/script-runner/fit-outputs.ts";

function reports(count: number, outputTail: string): ScriptReport[] {
	return Array.from({ length: count }, (_, index) => {
		return { name: `shop ${index}`, phase: "pre", timedOut: false, durationMs: 1, outputTail };
	});
}

describe("the outputs of all scripts of a job", () => {
	test("are left whole as long as they fit", () => {
		const few = reports(100, "x".repeat(4096));
		expect(fitOutputs(few)).toEqual(few);
	});

	test.each(["x", "\0", "\ufffd"])("fit with 512 scripts that print %j", (letter) => {
		const cut = fitOutputs(reports(512, `${letter.repeat(4095)}e`));
		expect(cut.length).toBe(512);
		expect(Buffer.byteLength(JSON.stringify(cut))).toBeLessThan(2 * 1024 * 1024);
		expect(cut.every(({ outputTail }) => outputTail.length > 100 && outputTail.endsWith("e"))).toBe(true);
	});
});
