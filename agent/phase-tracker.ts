import { StillpointError } from "../contracts/errors.ts";
import { type JobPhase, jobPhases } from "../contracts/hold-protocol.ts";

/** Where a job stands. An object, because a captured `let` of a union type is narrowed wrongly by the compiler. */
export type PhaseTracker = {
	readonly phase: JobPhase;
	/** False when it is the phase already. @throws `message-invalid` when the table does not allow it. */
	advance(to: JobPhase): boolean;
	/** The agent's own word, when the extension is gone: the table does not bind it. */
	force(to: JobPhase): boolean;
};

export function makePhaseTracker(onChange: (phase: JobPhase) => void): PhaseTracker {
	const state: { phase: JobPhase } = { phase: "queued" };
	function set(to: JobPhase): boolean {
		if (state.phase === to) return false;
		state.phase = to;
		onChange(to);
		return true;
	}
	return {
		get phase() {
			return state.phase;
		},
		advance(to) {
			const allowed: readonly string[] = jobPhases[state.phase];
			if (to !== state.phase && !allowed.includes(to))
				throw new StillpointError("message-invalid", `a job cannot go from ${state.phase} to ${to}`);
			return set(to);
		},
		force: set,
	};
}
