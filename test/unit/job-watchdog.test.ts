import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { makeJobWatchdog } from "../../agent/job-watchdog.ts";
import type { JobPhase } from "../../contracts/hold-protocol.ts";
import { orderSchema } from "../../contracts/order.ts";

const holdLimitMs = 10_000;

describe("an extension process that stands still", () => {
	beforeEach(() => void vi.useFakeTimers());
	afterEach(() => void vi.useRealTimers());

	function watch(...phases: JobPhase[]) {
		const order = orderSchema.parse({
			jobId: "j",
			level: "crash",
			acceptLevel: "crash",
			disks: "all",
			holdLimitMs,
			prepareLimitMs: 5_000,
		});
		const ended: string[] = [];
		const watchdog = makeJobWatchdog({ order, stopLimitMs: 1_000, end: (why) => ended.push(why), giveUp: () => {} });
		for (const phase of phases) watchdog.phase(phase);
		return { watchdog, ended };
	}

	test.each<JobPhase>(["planning", "prepared", "freezing", "frozen"])("is ended in %s, at level crash too", (phase) => {
		const { ended } = watch("planning", phase);
		vi.advanceTimersByTime(holdLimitMs + 60_000);
		expect(ended).toHaveLength(1);
	});

	test("is left alone for as long as it may freeze and hold", () => {
		const { watchdog, ended } = watch("freezing");
		vi.advanceTimersByTime(holdLimitMs);
		watchdog.phase("frozen");
		vi.advanceTimersByTime(holdLimitMs);
		expect(ended).toEqual([]);
	});

	test("that said it lives and then says nothing is ended within seconds, also long after the thaw", () => {
		const { watchdog, ended } = watch("planning", "post");
		for (let told = 0; told < 10; told += 1) {
			watchdog.alive();
			vi.advanceTimersByTime(10_000);
		}
		expect(ended).toEqual([]);
		vi.advanceTimersByTime(10_000);
		expect(ended).toEqual([expect.stringMatching(/nothing was heard/)]);
	});

	test("one that never says that it lives is not ended for its silence", () => {
		const { ended } = watch("planning", "post");
		vi.advanceTimersByTime(60_000);
		expect(ended).toEqual([]);
	});

	test("is not ended while the kernel does not let go", () => {
		const { watchdog, ended } = watch("freezing");
		watchdog.phase("stuck");
		vi.advanceTimersByTime(3_600_000);
		expect(ended).toEqual([]);
	});
});
