import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { makeWriteHold } from "../../agent/write-hold.ts";

describe("the write hold", () => {
	test("a write during the hold waits, and runs after the release in the order of the calls", async () => {
		const hold = makeWriteHold();
		const done: number[] = [];
		await hold.quiet(100);
		const writes = [1, 2, 3].map((number) => hold.write(() => void done.push(number)));
		await sleep(5);
		expect(done).toEqual([]);
		hold.release();
		await Promise.all(writes);
		expect(done).toEqual([1, 2, 3]);
	});

	test("without a hold a write runs at once (negative control)", async () => {
		const hold = makeWriteHold();
		expect(await hold.write(() => 7)).toBe(7);
	});

	test("quiet waits for the write in flight and lets no further one begin", async () => {
		const hold = makeWriteHold();
		const inFlight = Promise.withResolvers<void>();
		let second = false;
		const first = hold.write(() => inFlight.promise);
		const next = hold.write(() => {
			second = true;
		});
		const quiet = hold.quiet(1_000).then(() => "quiet");
		expect(await Promise.race([quiet, sleep(5, "waiting")])).toBe("waiting");
		inFlight.resolve();
		expect(await quiet).toBe("quiet");
		await first;
		await sleep(5);
		expect(second).toBe(false);
		hold.release();
		await next;
		expect(second).toBe(true);
	});

	test("a write that does not end makes quiet fail at its limit, and the hold stays closed", async () => {
		const hold = makeWriteHold();
		void hold.write(() => new Promise(() => {}));
		await expect(hold.quiet(10)).rejects.toMatchObject({ code: "deadline-passed" });
		expect(hold.held).toBe(true);
	});

	test("a write that fails fails for its caller only", async () => {
		const hold = makeWriteHold();
		const bad = hold.write(() => Promise.reject(new Error("full")));
		const thrown = hold.write(() => {
			throw new Error("also");
		});
		const good = hold.write(() => "good");
		await expect(bad).rejects.toThrow("full");
		await expect(thrown).rejects.toThrow("also");
		expect(await good).toBe("good");
	});

	test("held again before the queue is empty: the rest waits for the next release", async () => {
		const hold = makeWriteHold();
		const done: number[] = [];
		await hold.quiet(10);
		const writes = [1, 2, 3].map((number) =>
			hold.write(async () => {
				done.push(number);
				await sleep(1);
			}),
		);
		hold.release();
		await hold.quiet(1_000);
		expect(done).toEqual([1]);
		hold.release();
		await Promise.all(writes);
		expect(done).toEqual([1, 2, 3]);
	});
});
