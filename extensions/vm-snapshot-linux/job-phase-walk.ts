import { StillpointError } from "../../contracts/errors.ts";
import { type JobPhase, jobPhases } from "../../contracts/hold-protocol.ts";

/** Walks the table of phases, and refuses what is not drawn in it. */
export class JobPhaseWalk {
	readonly #onPhase: (phase: JobPhase) => void;
	#phase: JobPhase = "queued";

	constructor(onPhase: (phase: JobPhase) => void) {
		this.#onPhase = onPhase;
	}

	get phase(): JobPhase {
		return this.#phase;
	}

	advance(next: JobPhase): void {
		const allowed: readonly string[] = jobPhases[this.#phase];
		if (!allowed.includes(next)) throw new StillpointError("internal", `phase ${next} can't follow ${this.#phase}`);
		this.#phase = next;
		this.#onPhase(next);
	}

	/** What has failed goes on by undoing; a phase that can't be undone any more stays. */
	undo(): void {
		const allowed: readonly string[] = jobPhases[this.#phase];
		if (allowed.includes("undoing")) this.advance("undoing");
	}
}
