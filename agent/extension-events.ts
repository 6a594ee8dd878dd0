import { StillpointError } from "../contracts/errors.ts";
import type { ExtensionEvent } from "../contracts/extension.ts";
import type { Report } from "../contracts/report.ts";
import type { Asker } from "./asker.ts";
import type { ExtensionSeat } from "./extension-seat.ts";
import type { JobWatchdog } from "./job-watchdog.ts";
import type { Log } from "./log.ts";
import type { PhaseTracker } from "./phase-tracker.ts";
import type { ThirdHolder } from "./third-holder.ts";

/** What an extension says, heard one word after the other. */
export type ExtensionEvents = {
	/** It said with `prepared` that it understands `taken`. */
	readonly takesDisksApart: boolean;
	/** The last word that counts; after it only `stuck` is heard. */
	readonly report: Report | undefined;
	/** @throws `message-invalid` for what does not belong here; the job goes on. */
	hear(event: ExtensionEvent): Promise<void>;
	/** Resolves when all that was heard until now is done. */
	settled(): Promise<void>;
};

export function makeExtensionEvents(given: {
	jobId: string;
	/** No hold is longer, whatever the extension says. */
	holdLimitMs: number;
	asker: Asker;
	seat: ExtensionSeat;
	phases: PhaseTracker;
	holder: ThirdHolder;
	watchdog: JobWatchdog;
	log: Log;
	tellStuck(fileSystems: string[]): void;
	whenNothingStarts(): Promise<void>;
}): ExtensionEvents {
	const { jobId, asker, seat, phases, holder, watchdog, log } = given;
	const state = {
		report: undefined as Report | undefined,
		held: false,
		takesDisksApart: false,
		events: Promise.resolve(),
	};

	async function handle(event: ExtensionEvent): Promise<void> {
		if (event.jobId !== jobId) throw new StillpointError("message-invalid", `this extension runs job ${jobId}`);
		if (state.report !== undefined && event.type !== "stuck" && event.type !== "alive") return;
		switch (event.type) {
			case "alive":
				watchdog.alive();
				return;
			case "phase":
				phases.advance(event.phase);
				return;
			case "targets":
				return await holder.open(event.targets);
			case "freezing":
				seat.requireOwn(event.freezerPid);
				phases.advance("freezing");
				// The local cap binds the extension's own word, too.
				await holder.freezing({ ...event, holdLimitMs: Math.min(event.holdLimitMs, given.holdLimitMs) });
				state.held = true;
				if (!seat.tell({ type: "quiet", jobId }))
					throw new StillpointError("extension-failed", "the extension is gone");
				return;
			case "frozen":
				// A hold that is worth no more than a crash freezes nothing.
				if (!state.held && event.worth !== "crash")
					throw new StillpointError("message-invalid", "frozen came before freezing");
				phases.advance("frozen");
				asker.send(event);
				return;
			case "thawed":
				asker.send(event);
				holder.thawed();
				return;
			case "prepared":
				phases.advance("prepared");
				state.takesDisksApart = event.perDisk === true;
				await given.whenNothingStarts().catch((error: unknown) => {
					log.warn("something of an inventory still runs", { jobId, error });
				});
				asker.send(event);
				return;
			case "stuck":
				given.tellStuck(event.fileSystems);
				return;
			case "report":
				if (event.report.jobId !== jobId) throw new StillpointError("message-invalid", "the report of another job");
				state.report = event.report;
				phases.force(event.report.error === undefined ? "done" : "failed");
				return;
		}
	}

	return {
		get takesDisksApart() {
			return state.takesDisksApart;
		},
		get report() {
			return state.report;
		},
		hear(event) {
			const done = state.events.then(() => handle(event));
			state.events = done.catch((error: unknown) => {
				log.warn("an event of the extension was refused", { jobId, type: event.type, error });
			});
			return done;
		},
		settled: () => state.events,
	};
}
