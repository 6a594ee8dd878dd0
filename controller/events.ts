import { randomBytes } from "node:crypto";
import type { ControllerEvent } from "../contracts/controller-api.ts";
import type { ControllerJob } from "../contracts/controller-messages.ts";

export type NumberedEvent = { readonly sequence: number; readonly event: ControllerEvent };

/**
 * What happens, in order: the latest few events in memory, and who is told that there are new ones. Nothing of it
 * touches a disk, and telling waits for the next turn of the event loop: whoever publishes may hold a freeze.
 */
export type ControllerEvents = {
	/** The event must not be changed afterwards: it is turned into text only when somebody reads it. */
	publish(event: ControllerEvent): void;
	/** The number of the latest event; 0 before the first. */
	readonly head: number;
	/** Those after the number, oldest first; undefined when some of them are not kept any more. */
	findAfter(sequence: number): readonly NumberedEvent[] | undefined;
	/** Called after events were published, not in the same turn. The result ends it. */
	listen(onNews: () => void): () => void;
	/** As it stands in `id:`; numbers of another life of the controller are told apart. */
	formatId(sequence: number): string;
	/** Undefined for what is no id of this life. */
	parseId(id: string): number | undefined;
};

export function makeControllerEvents(kept = 1_024): ControllerEvents {
	const life = randomBytes(4).toString("hex");
	const listeners = new Set<() => void>();
	const state = { ring: [] as NumberedEvent[], head: 0, telling: false };

	function tell(): void {
		state.telling = false;
		for (const onNews of [...listeners]) onNews();
	}

	return {
		get head() {
			return state.head;
		},
		publish(event) {
			state.head += 1;
			state.ring.push({ sequence: state.head, event });
			// In one step for many, because a shift for each would move the whole ring each time.
			if (state.ring.length >= kept * 2) state.ring = state.ring.slice(-kept);
			if (state.telling || listeners.size === 0) return;
			state.telling = true;
			setImmediate(tell);
		},
		findAfter(sequence) {
			const missing = state.head - sequence;
			if (missing < 0 || missing > Math.min(kept, state.ring.length)) return undefined;
			return missing === 0 ? [] : state.ring.slice(-missing);
		},
		listen(onNews) {
			listeners.add(onNews);
			return () => void listeners.delete(onNews);
		},
		formatId: (sequence) => `${life}-${sequence}`,
		parseId(id) {
			const [, of, sequence] = /^([0-9a-f]{8})-(\d{1,15})$/.exec(id) ?? [];
			return of === life ? Number(sequence) : undefined;
		},
	};
}

const mostMessage = 1_024;

/** The job as an event shows it: without its report, and with no more than a sentence of an error. */
export function jobEvent({ report: _, ...job }: ControllerJob): ControllerEvent {
	if (job.error === undefined) return { type: "job", job };
	const { details: __, ...error } = job.error;
	return { type: "job", job: { ...job, error: { ...error, message: error.message.slice(0, mostMessage) } } };
}
