import type { Outbox } from "../job-records.ts";

const ackLimitMs = 30_000;

/** Sends the reports in order, one at a time: the next one when the last is acknowledged. */
export type OutboxSender = Disposable & {
	/** Sends what is due, unless one is under way. */
	wake(): void;
	acknowledged(sequence: number): void;
};

export function makeOutboxSender(given: {
	outbox: Outbox;
	send(message: { type: "report"; sequence: number; report: unknown }): boolean;
	/** No acknowledgement came in time: the connection is of no use. */
	onSilent(): void;
}): OutboxSender {
	const state = { waitingFor: undefined as number | undefined, timer: undefined as NodeJS.Timeout | undefined };

	function wake(): void {
		if (state.waitingFor !== undefined) return;
		const first = given.outbox.first();
		if (first === undefined || !given.send({ type: "report", ...first })) return;
		state.waitingFor = first.sequence;
		state.timer = setTimeout(given.onSilent, ackLimitMs);
	}

	const added = given.outbox.onAdded(wake);
	return {
		wake,
		acknowledged(sequence) {
			// Only what was sent can be acknowledged: a wrong number must not lose a report.
			if (sequence !== state.waitingFor) return;
			clearTimeout(state.timer);
			state.waitingFor = undefined;
			given.outbox.acknowledge(sequence);
			wake();
		},
		[Symbol.dispose]() {
			clearTimeout(state.timer);
			added[Symbol.dispose]();
		},
	};
}
