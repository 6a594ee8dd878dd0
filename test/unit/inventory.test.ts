import { expect, test } from "vitest";
import { makeInventory } from "../../agent/inventory.ts";

const signal = new AbortController().signal;

test("a part that fails is named, and the others stand", async () => {
	const inventory = makeInventory(async () => ({
		good: async () => 1,
		bad: async () => {
			throw new Error("no such thing");
		},
	}));
	expect(await inventory.take(signal)).toMatchObject({ good: 1, failed: { bad: "no such thing" } });
});

test("it has ended when every part has, also those that nobody waits for any more", async () => {
	const slow = Promise.withResolvers<string>();
	const stop = new AbortController();
	const inventory = makeInventory(async () => ({ slow: () => slow.promise }));
	await inventory.ended(10);
	const taking = inventory.take(stop.signal).catch((error: unknown) => error);
	await expect(inventory.ended(10)).rejects.toMatchObject({ code: "deadline-passed" });
	stop.abort(new Error("stopping"));
	expect(await taking).toMatchObject({ message: "stopping" });
	await expect(inventory.ended(10)).rejects.toMatchObject({ code: "deadline-passed" });
	slow.resolve("at last");
	await inventory.ended(1_000);
});
