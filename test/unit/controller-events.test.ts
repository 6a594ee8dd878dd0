import { describe, expect, test } from "vitest";
import type { ControllerEvent } from "../../contracts/controller-api.ts";
import { jobEvent, makeControllerEvents } from "../../controller/events.ts";

const agentEvent = (agentId: string): ControllerEvent => ({ type: "agent", agentId, connected: true });

describe("the ring of events", () => {
	test("keeps the latest ones, and says when one that is asked for is gone", () => {
		const events = makeControllerEvents(4);
		expect(events.findAfter(0)).toEqual([]);
		for (let count = 1; count <= 30; count += 1) {
			events.publish(agentEvent(String(count)));
			expect(events.head).toBe(count);
			for (let after = 0; after <= count; after += 1) {
				const found = events.findAfter(after)?.map(({ sequence }) => sequence);
				const wanted = Array.from({ length: count - after }, (_, at) => after + at + 1);
				expect(found).toEqual(count - after <= 4 ? wanted : undefined);
			}
			expect(events.findAfter(count + 1)).toBeUndefined();
		}
	});

	test("ids are good for one life of the controller, and only as they were given", () => {
		const [events, other] = [makeControllerEvents(), makeControllerEvents()];
		const id = events.formatId(7);
		expect(events.parseId(id)).toBe(7);
		for (const bad of ["", "7", `${id}x`, ` ${id}`, id.replace("-", "--"), `${id}${"0".repeat(20)}`, other.formatId(7)])
			expect(events.parseId(bad)).toBeUndefined();
	});

	test("publishing tells nobody in the same turn and makes no text: whoever publishes may hold a freeze", async () => {
		const events = makeControllerEvents();
		const told: number[] = [];
		let texts = 0;
		const stop = events.listen(() => told.push(events.head));
		const event = Object.assign(agentEvent("a"), { toJSON: () => (texts += 1) });
		events.publish(event);
		events.publish(event);
		await Promise.resolve();
		expect([told, texts]).toEqual([[], 0]);
		await new Promise((resolve) => setImmediate(resolve));
		expect([told, texts]).toEqual([[2], 0]);
		stop();
		events.publish(event);
		await new Promise((resolve) => setImmediate(resolve));
		expect(told).toEqual([2]);
		JSON.stringify(event);
		expect(texts).toBe(1);
	});

	test("an event of a job is small, whatever an agent said in its error", () => {
		const error = { code: "internal" as const, message: "x".repeat(4_000), details: { much: "y".repeat(10_000) } };
		const job = { jobId: "j", agentId: "a", state: "failed" as const, orderedAt: new Date().toISOString(), error };
		expect(JSON.stringify(jobEvent(job)).length).toBeLessThan(2_000);
	});
});
