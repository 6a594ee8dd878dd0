import { checkShape } from "../contracts/check-shape.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import { type HoldEvent, holdEventSchema } from "../contracts/hold-protocol.ts";
import { type Report, reportSchema } from "../contracts/report.ts";

type Heard = { type: "event"; event: HoldEvent } | { type: "report"; report: Report };

/** What the agent pushed about a job, in order, for one reader. */
export class Inbox {
	readonly #waiting: Heard[] = [];
	#closed: StillpointError | undefined;
	#wake: () => void = () => {};

	put(params: unknown): void {
		const heard = parseHeard(params);
		if (heard === undefined)
			this.close(new StillpointError("message-invalid", "the agent told of no event that is known"));
		else this.#waiting.push(heard);
		this.#wake();
	}

	/** What waits is still read; then `next` throws the first reason. */
	close(reason: unknown): void {
		this.#closed ??= asStillpointError(reason);
		this.#wake();
	}

	async next(): Promise<Heard> {
		for (;;) {
			const one = this.#waiting.shift();
			if (one) return one;
			if (this.#closed) throw this.#closed;
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}
}

function parseHeard(params: unknown): Heard | undefined {
	const event = checkShape(holdEventSchema, params);
	if (event.success) return { type: "event", event: event.data };
	const report = checkShape(reportSchema, (params as { report?: unknown } | null)?.report);
	return report.success ? { type: "report", report: report.data } : undefined;
}
