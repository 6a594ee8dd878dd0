import { describe, expect, test } from "vitest";
import { type JobPhase, jobPhases } from "../../contracts/hold-protocol.ts";
import { JobPhaseWalk } from "../../extensions/vm-snapshot-linux/job-phase-walk.ts";

const straight: JobPhase[] = [
	"planning",
	"preparing",
	"prepared",
	"scripts",
	"freezing",
	"frozen",
	"thawing",
	"post",
	"judging",
	"done",
];

describe("the walk through the phases of a job", () => {
	test("the straight way is drawn in the table, and told step by step", () => {
		const told: JobPhase[] = [];
		const walk = new JobPhaseWalk((phase) => told.push(phase));
		for (const phase of straight) walk.advance(phase);
		expect(told).toEqual(straight);
	});

	test("what is not drawn is refused", () => {
		const walk = new JobPhaseWalk(() => undefined);
		walk.advance("planning");
		expect(() => walk.advance("frozen")).toThrow("frozen can't follow planning");
		expect(walk.phase).toBe("planning");
	});

	test("every phase before the verdict leads to the undoing, and from there to the verdict", () => {
		for (let steps = 1; steps <= straight.indexOf("post") + 1; steps += 1) {
			const walk = new JobPhaseWalk(() => undefined);
			for (const phase of straight.slice(0, steps)) walk.advance(phase);
			walk.undo();
			expect(walk.phase).toBe("undoing");
			walk.advance("judging");
			walk.advance("failed");
		}
	});

	test("no way leads from a phase that may hold a freeze to the verdict but through the thaw or the undoing", () => {
		const holding: JobPhase[] = ["freezing", "frozen", "stuck"];
		for (const phase of holding) {
			const next: readonly string[] = jobPhases[phase];
			expect(next.filter((one) => !["frozen", "thawing", "undoing"].includes(one))).toEqual([]);
		}
	});

	test("undoing twice, or when all is over, changes nothing", () => {
		const walk = new JobPhaseWalk(() => undefined);
		walk.advance("planning");
		walk.undo();
		walk.undo();
		walk.advance("judging");
		walk.undo();
		expect(walk.phase).toBe("judging");
	});
});
