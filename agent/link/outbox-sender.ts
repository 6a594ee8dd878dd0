import type { AgentMessage } from "../../contracts/controller-messages.ts";
import type { Outbox } from "../job-records.ts";
import { fitReport } from "./fit-report.ts";

const ackLimitMs = 30_000;

/** Sends the reports of one controller in order, one at a time: the next one when the last is acknowledged. */
export type OutboxSender = Disposable & {
	/** Sends what is due, unless one is under way. */
	wake(): void;
	/** False when nothing with this number was sent: it can't lose a report. */
	acknowledged(sequence: number): boolean;
};

export function makeOutboxSender(given: {
	readonly outbox: Outbox;
	readonly controller: string;
	send(message: Extract<AgentMessage, { type: "report" }>): boolean;
	/** What was sent and is not on its way yet. */
	waitingBytes(): number;
	/** No acknowledgement came in time: the connection is of no use. */
	onSilent(): void;
}): OutboxSender {
	const state = { waitingFor: undefined as number | undefined, timer: undefined as NodeJS.Timeout | undefined };

	function wake(): void {
		if (state.waitingFor !== undefined) return;
		const first = given.outbox.first(given.controller);
		if (first === undefined) return;
		const { sequence, report } = first;
		if (!given.send({ type: "report", sequence, report: fitReport(report) })) return;
		state.waitingFor = sequence;
		expectAck(given.waitingBytes());
	}

	/** On a slow line a large report takes its time: as long as it moves, the limit begins anew. */
	function expectAck(waitingBytes: number): void {
		state.timer = setTimeout(() => {
			const leftBytes = given.waitingBytes();
			if (leftBytes < waitingBytes) expectAck(leftBytes);
			else given.onSilent();
		}, ackLimitMs);
	}

	const added = given.outbox.onAdded(wake);
	return {
		wake,
		acknowledged(sequence) {
			if (sequence !== state.waitingFor) return false;
			clearTimeout(state.timer);
			state.waitingFor = undefined;
			given.outbox.acknowledge(sequence);
			wake();
			return true;
		},
		[Symbol.dispose]() {
			clearTimeout(state.timer);
			added[Symbol.dispose]();
		},
	};
}
