import { silenceLimitMs } from "../contracts/extension.ts";
import type { JobPhase } from "../contracts/hold-protocol.ts";
import type { Order } from "../contracts/order.ts";

/** How long each phase may last before the extension process is ended, beyond what order and scripts may take. */
const attachLimitMs = 15_000;
const graceMs = 3_000;
/** Beside the hold itself: for the agent to become quiet, and for the hold's own deadline to be heard of. */
const aroundHoldLimitMs = 12_000;
const afterThawLimitMs = 3_600_000;
const orphanLimitMs = 120_000;
const rescueOnStopLimitMs = 5_000;

/**
 * The clock that ends an extension process which does not come to an end by itself. One timer for the phase, where the
 * last word counts, and one for silence: a process that is stopped or hangs says nothing in any phase.
 */
export type JobWatchdog = Disposable & {
	phase(phase: JobPhase): void;
	/** It said that it lives, as it will every few seconds. */
	alive(): void;
	/** The hold's deadline passed, and the agent thaws by itself. */
	holdExpired(): void;
	/** The extension's connection ended. */
	orphaned(hasReport: boolean): void;
	/** From here on only the stop's own limit counts; a little after it the kernel is given up, too. */
	stopping(): void;
	/** Nothing is left to end: a timer would only keep the agent alive. */
	reaped(): void;
};

export function makeJobWatchdog(given: {
	order: Order;
	stopLimitMs: number;
	/** Ends the extension process. */
	end(why: string): void;
	/** The service stops and something stays frozen. */
	giveUp(): void;
}): JobWatchdog {
	const beganMs = performance.now();
	const state = {
		timer: undefined as NodeJS.Timeout | undefined,
		silence: undefined as NodeJS.Timeout | undefined,
		stopping: false,
		reaped: false,
	};

	function set(limitMs: number, act: () => void): void {
		clearTimeout(state.timer);
		state.timer = setTimeout(act, limitMs);
	}
	function watch(limitMs: number, what: string): void {
		if (!state.reaped && !state.stopping) set(limitMs, () => given.end(`${what} passed`));
	}
	function giveUpLater(): void {
		set(rescueOnStopLimitMs, given.giveUp);
	}

	return {
		phase(phase) {
			const leftToFreezeMs = given.order.prepareLimitMs - (performance.now() - beganMs) + graceMs;
			if (phase === "planning") watch(Math.min(attachLimitMs, leftToFreezeMs), "the time to attach");
			else if (["preparing", "prepared", "scripts"].includes(phase)) watch(leftToFreezeMs, "prepareLimitMs");
			else if (["thawing", "post", "undoing", "judging"].includes(phase)) watch(afterThawLimitMs, "the time to end");
			else if (phase === "done" || phase === "failed") watch(graceMs, "the time to exit");
			// Where something is frozen the hold's own deadline comes first. At level crash there is no other than this.
			else if (phase === "freezing" || phase === "frozen")
				watch(given.order.holdLimitMs + aroundHoldLimitMs, "the time to freeze and hold");
			// `stuck` lasts as long as the kernel wants.
			else if (!state.stopping) clearTimeout(state.timer);
		},
		alive() {
			clearTimeout(state.silence);
			if (state.reaped) return;
			const what = `nothing was heard of it for ${silenceLimitMs} ms`;
			state.silence = setTimeout(() => given.end(what), silenceLimitMs);
		},
		holdExpired: () => watch(graceMs, "the hold's deadline"),
		orphaned: (hasReport) => watch(hasReport ? graceMs : orphanLimitMs, "the time to undo without the agent"),
		stopping() {
			if (state.stopping) return;
			state.stopping = true;
			if (state.reaped) giveUpLater();
			else
				set(given.stopLimitMs, () => {
					given.end("the time to undo at a stop passed");
					giveUpLater();
				});
		},
		reaped() {
			state.reaped = true;
			clearTimeout(state.silence);
			clearTimeout(state.timer);
			if (state.stopping) giveUpLater();
		},
		[Symbol.dispose]() {
			state.reaped = true;
			clearTimeout(state.silence);
			clearTimeout(state.timer);
		},
	};
}
