/** One job, from the start of its extension process to its report. */
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import type { ExtensionEvent, SnapshotRequest } from "../contracts/extension.ts";
import type { HoldCommand, HoldEvent, JobPhase } from "../contracts/hold-protocol.ts";
import type { Order } from "../contracts/order.ts";
import type { Report, ScriptReport } from "../contracts/report.ts";
import type { LocalCaller } from "../platform/local-channel.ts";
import type { Asker } from "./asker.ts";
import { makeExtensionEvents } from "./extension-events.ts";
import type { InstalledExtension } from "./extension-host/installed-extension.ts";
import type { ExtensionProcess } from "./extension-host/run-snapshot.ts";
import { makeExtensionSeat } from "./extension-seat.ts";
import { makeJobWatchdog } from "./job-watchdog.ts";
import type { Log } from "./log.ts";
import { makeLostReport } from "./lost-report.ts";
import { makePhaseTracker } from "./phase-tracker.ts";
import { makeThirdHolder } from "./third-holder.ts";
import type { WriteHold } from "./write-hold.ts";

export type CancelCode = Extract<HoldCommand, { type: "cancel" }>["code"];

export type JobPorts = {
	readonly hold: WriteHold;
	readonly log: Log;
	readonly runDir: string;
	/** How long the undo may take when the service stops. */
	readonly stopLimitMs: number;
	startExtension(extension: InstalledExtension, request: SnapshotRequest): ExtensionProcess;
	/** The report that the extension left in its status file, when it could not send it. */
	findStatusReport(extension: InstalledExtension, jobId: string): Report | undefined;
	onPhase(jobId: string, phase: JobPhase): void;
	/** At most once: the asker told of a snapshot that was taken. */
	onSnapshotTold(jobId: string): void;
	/** To every link, not only to the asker. */
	onStuck(event: HoldEvent): void;
	/** Undoes what an extension left that ended without its report: what its scripts then did, for the report. */
	recover(extension: InstalledExtension, jobId: string, signal: AbortSignal): Promise<readonly ScriptReport[]>;
	/** Resolves when the agent runs no program but the job's own. @throws `deadline-passed` */
	whenNothingStarts(): Promise<void>;
};

export type RunningJob = {
	readonly order: Order;
	readonly phase: JobPhase;
	readonly asker: Asker;
	readonly mayBeFrozen: boolean;
	/** From `prepared` to the thaw: no program but the job's own may be started. */
	readonly startsNothing: boolean;
	frozenMountPoints(): readonly string[];
	/** @throws `not-allowed` for a wrong token. */
	attach(token: string, caller: LocalCaller): void;
	event(token: string, event: ExtensionEvent): Promise<void>;
	/** From the asker; `cancel` from anybody. */
	command(command: HoldCommand): void;
	cancel(code: CancelCode): void;
	/** Never rejects. Settles when the extension is reaped and nothing of it is frozen, or when a stop gave up. */
	readonly report: Promise<Report>;
};

export type JobStart = {
	order: Order;
	asker: Asker;
	extension: InstalledExtension;
	/** All of the request but the channel's token. */
	makeRequest(token: string): SnapshotRequest;
	ports: JobPorts;
};

export function startJob({ order, asker, extension, makeRequest, ports }: JobStart): RunningJob {
	const { jobId } = order;
	const { log } = ports;
	const seat = makeExtensionSeat({ jobId, log });
	const request = makeRequest(seat.token);
	const startedAt = new Date().toISOString();
	const beganMs = performance.now();
	const door = new AbortController();
	const stopGaveUp = new AbortController();
	const state = { askerTold: false, snapshotTold: false, stuckOn: undefined as readonly string[] | undefined };

	const phases = makePhaseTracker((phase) => {
		log.debug("phase", { jobId, phase });
		ports.onPhase(jobId, phase);
		asker.send({ type: "phase", jobId, phase });
		watchdog.phase(phase);
	});
	const watchdog = makeJobWatchdog({
		order,
		stopLimitMs: ports.stopLimitMs,
		end: seat.end,
		giveUp: () => stopGaveUp.abort(),
	});
	const holder = makeThirdHolder({
		jobId,
		runDir: ports.runDir,
		hold: ports.hold,
		log,
		onDeadline: () => watchdog.holdExpired(),
		onStuck: (fileSystems) => tellStuck(fileSystems),
	});

	const events = makeExtensionEvents({
		jobId,
		holdLimitMs: request.holdLimitMs,
		asker,
		seat,
		phases,
		holder,
		watchdog,
		log,
		tellStuck,
		whenNothingStarts: ports.whenNothingStarts,
	});

	/**
	 * Extension and third holder may both tell, each by what it saw thawed: what one of them saw to be free is free, it
	 * is not frozen again in this job.
	 */
	function tellStuck(named: string[]): void {
		const both = named.filter((one) => state.stuckOn?.includes(one) ?? true);
		const fileSystems = both.length > 0 ? both : named;
		state.stuckOn = fileSystems;
		phases.force("stuck");
		const error = new StillpointError("stuck", `still frozen: ${fileSystems.join(", ")}`);
		const event: HoldEvent = { type: "stuck", jobId, fileSystems, error: error.toJSON() };
		asker.send(event);
		ports.onStuck(event);
	}

	function cancel(code: CancelCode): void {
		if (code === "stopping") watchdog.stopping();
		if (door.signal.aborted) return;
		door.abort(new StillpointError(code, cancelTexts[code]));
		log.warn("cancelling the job", { jobId, code, phase: phases.phase });
		if (!seat.attached) seat.end(code);
		else seat.tell({ type: "cancel", jobId, code });
	}

	/** A note that can't be taken must not hold up the thaw. */
	function noteSnapshot(): void {
		try {
			ports.onSnapshotTold(jobId);
		} catch (error) {
			log.warn("that a snapshot was taken could not be noted in the run folder", { jobId, error });
		}
	}

	async function run(): Promise<Report> {
		await using undo = new AsyncDisposableStack();
		undo.use(watchdog);
		const onAskerLost = () => {
			if (!state.askerTold) cancel("asker-lost");
		};
		asker.closed.addEventListener("abort", onAskerLost, { once: true });
		undo.defer(() => asker.closed.removeEventListener("abort", onAskerLost));
		// The order's answer is on its way before the first event.
		await new Promise<void>((resolve) => setImmediate(resolve));
		if (asker.closed.aborted) cancel("asker-lost");
		let failure: StillpointError;
		try {
			door.signal.throwIfAborted();
			phases.force("planning");
			const started = ports.startExtension(extension, request);
			log.info("extension process started", { jobId, pid: started.pid });
			const end = await seat.run(started);
			watchdog.reaped();
			await events.settled();
			failure = door.signal.aborted && !seat.attached ? asStillpointError(door.signal.reason) : seat.describe(end);
			log.info("the extension ended", { jobId, ...end });
		} catch (error) {
			failure = asStillpointError(error);
		}
		const free = await holder.rescue("the extension ended", stopGaveUp.signal);
		const found = events.report ?? ports.findStatusReport(extension, jobId);
		const report = found ?? makeReport(failure, free, free ? await recover() : []);
		phases.force(report.error === undefined ? "done" : "failed");
		return report;
	}

	async function recover(): Promise<readonly ScriptReport[]> {
		try {
			return await ports.recover(extension, jobId, stopGaveUp.signal);
		} catch (error) {
			log.error("what the extension left could not be undone; the next start tries again", { jobId, error });
			return [];
		}
	}

	function makeReport(failure: StillpointError, free: boolean, scripts: readonly ScriptReport[]): Report {
		const error = free
			? failure
			: new StillpointError(
					"stuck",
					`the service stopped while something may be frozen; before that: ${failure.message}`,
				);
		const durationMs = performance.now() - beganMs;
		const { name, version } = extension;
		return makeLostReport({
			order,
			extension: { name, version },
			startedAt,
			durationMs,
			error,
			snapshotTold: state.snapshotTold,
			scripts,
		});
	}

	return {
		order,
		asker,
		get phase() {
			return phases.phase;
		},
		get mayBeFrozen() {
			return holder.mayBeFrozen;
		},
		get startsNothing() {
			return holder.mayBeFrozen || quietPhases.includes(phases.phase);
		},
		frozenMountPoints() {
			if (!holder.mayBeFrozen) return [];
			// The others were let go.
			if (phases.phase === "stuck" && state.stuckOn !== undefined) return state.stuckOn;
			return holder.targets.map(({ mountPoint }) => mountPoint);
		},
		attach(given, caller) {
			seat.checkToken(given);
			seat.attach(caller);
			watchdog.phase("preparing");
			caller.closed.addEventListener("abort", () => watchdog.orphaned(events.report !== undefined), { once: true });
			if (door.signal.aborted) seat.tell({ type: "cancel", jobId, code: door.signal.reason.code });
		},
		async event(given, event) {
			seat.checkToken(given);
			await events.hear(event);
		},
		command(command) {
			if (command.type === "cancel") {
				cancel(command.code);
				return;
			}
			if (command.type === "taken" && !events.takesDisksApart) {
				log.debug("taken was told to an extension that does not know the word", { jobId });
				return;
			}
			if (phases.phase === "frozen" && (command.type === "done" || command.type === "release")) {
				state.askerTold = true;
				const told = command.type === "done" && command.disks.some(({ ok }) => ok);
				if (told && !state.snapshotTold) noteSnapshot();
				state.snapshotTold ||= told;
			}
			if (!seat.tell(command))
				throw new StillpointError("extension-failed", "the extension of the job is not attached");
		},
		cancel,
		report: run(),
	};
}

const quietPhases: readonly JobPhase[] = ["prepared", "scripts", "freezing", "frozen", "stuck"];

const cancelTexts: Record<CancelCode, string> = {
	cancelled: "the job was cancelled",
	stopping: "the service is stopping",
	"asker-lost": "who ordered the snapshot went away",
};
