/** One job, from the start of its extension process to its report. */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { asStillpointError, type ErrorCode, StillpointError } from "../contracts/errors.ts";
import type { ExtensionCommand, ExtensionEvent, SnapshotRequest } from "../contracts/extension.ts";
import type { HoldCommand, HoldEvent, JobPhase } from "../contracts/hold-protocol.ts";
import type { Order } from "../contracts/order.ts";
import type { Report, ScriptReport } from "../contracts/report.ts";
import { findProcessGroup } from "../platform/linux/process-identity.ts";
import type { LocalCaller } from "../platform/local-channel.ts";
import type { Asker } from "./asker.ts";
import type { InstalledExtension } from "./extension-host/installed-extension.ts";
import type { ExtensionProcess } from "./extension-host/run-snapshot.ts";
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
	const token = randomBytes(32).toString("hex");
	const startedAt = new Date().toISOString();
	const beganMs = performance.now();
	const door = new AbortController();
	const stopGaveUp = new AbortController();
	const state = {
		caller: undefined as LocalCaller | undefined,
		process: undefined as ExtensionProcess | undefined,
		report: undefined as Report | undefined,
		held: false,
		askerTold: false,
		snapshotTold: false,
		/** Events of the extension are handled one after the other. */
		events: Promise.resolve(),
		endedBy: undefined as string | undefined,
		reapLimit: undefined as NodeJS.Timeout | undefined,
		unreapable: Promise.withResolvers<Awaited<ExtensionProcess["exited"]>>(),
	};

	const phases = makePhaseTracker((phase) => {
		log.debug("phase", { jobId, phase });
		ports.onPhase(jobId, phase);
		asker.send({ type: "phase", jobId, phase });
		watchdog.phase(phase);
	});
	const watchdog = makeJobWatchdog({
		order,
		stopLimitMs: ports.stopLimitMs,
		end: (why) => endExtension(why),
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

	function endExtension(why: string): void {
		state.endedBy ??= why;
		log.error("ending the extension process", { jobId, why, pid: state.process?.pid });
		state.process?.kill();
		state.reapLimit ??= setTimeout(() => {
			log.error("a disk keeps the extension process from ending; the job ends without it", { jobId });
			state.unreapable.resolve({ exitCode: null, signal: null, outputTail: "" });
		}, reapLimitMs);
	}

	function tell(command: ExtensionCommand): boolean {
		return state.caller?.notify("extension.command", command) ?? false;
	}

	function tellStuck(fileSystems: string[]): void {
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
		if (state.caller === undefined) endExtension(code);
		else tell({ type: "cancel", jobId, code });
	}

	/** A note that can't be taken must not hold up the thaw. */
	function noteSnapshot(): void {
		try {
			ports.onSnapshotTold(jobId);
		} catch (error) {
			log.warn("that a snapshot was taken could not be noted in the run folder", { jobId, error });
		}
	}

	function checkToken(given: string): void {
		const known = Buffer.from(token);
		const other = Buffer.from(given);
		if (known.length !== other.length || !timingSafeEqual(known, other))
			throw new StillpointError("not-allowed", "the token belongs to no running job");
	}

	/** The agent ends the freezer in need, so its word for it must be a process of the extension, or none any more. */
	function requireOwnFreezer(freezerPid: number): void {
		const group = findProcessGroup(freezerPid);
		if (group !== undefined && group !== state.process?.pid)
			throw new StillpointError("message-invalid", `process ${freezerPid} is none of the extension's`);
	}

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
				requireOwnFreezer(event.freezerPid);
				phases.advance("freezing");
				// The local cap binds the extension's own word, too.
				await holder.freezing({ ...event, holdLimitMs: Math.min(event.holdLimitMs, request.holdLimitMs) });
				state.held = true;
				if (!tell({ type: "quiet", jobId })) throw new StillpointError("extension-failed", "the extension is gone");
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
				await ports.whenNothingStarts().catch((error: unknown) => {
					log.warn("something of an inventory still runs", { jobId, error });
				});
				asker.send(event);
				return;
			case "stuck":
				tellStuck(event.fileSystems);
				return;
			case "report":
				if (event.report.jobId !== jobId) throw new StillpointError("message-invalid", "the report of another job");
				state.report = event.report;
				phases.force(event.report.error === undefined ? "done" : "failed");
				return;
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
			state.process = started;
			log.info("extension process started", { jobId, pid: started.pid });
			undo.defer(() => started.endInput());
			undo.defer(() => clearTimeout(state.reapLimit));
			const end = await Promise.race([started.exited, state.unreapable.promise]);
			watchdog.reaped();
			await state.events;
			failure = describeEnd(end);
			log.info("the extension ended", { jobId, ...end });
		} catch (error) {
			failure = asStillpointError(error);
		}
		const free = await holder.rescue("the extension ended", stopGaveUp.signal);
		const found = state.report ?? ports.findStatusReport(extension, jobId);
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

	function describeEnd(end: { exitCode: number | null; signal: string | null; outputTail: string }): StillpointError {
		const how = end.signal === null ? `exit status ${end.exitCode}` : `signal ${end.signal}`;
		const why = state.endedBy === undefined ? "" : ` (${state.endedBy})`;
		const details = { outputTail: end.outputTail };
		if (door.signal.aborted && state.caller === undefined) return door.signal.reason as StillpointError;
		const code: ErrorCode = "extension-failed";
		return new StillpointError(code, `the extension process ended without a report: ${how}${why}`, { details });
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

	const request = makeRequest(token);
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
		frozenMountPoints: () => (holder.mayBeFrozen ? holder.targets.map(({ mountPoint }) => mountPoint) : []),
		attach(given, caller) {
			checkToken(given);
			if (state.caller !== undefined) throw new StillpointError("not-allowed", "the extension is attached already");
			state.caller = caller;
			watchdog.phase("preparing");
			caller.closed.addEventListener("abort", () => watchdog.orphaned(state.report !== undefined), { once: true });
			if (door.signal.aborted) tell({ type: "cancel", jobId, code: door.signal.reason.code });
		},
		event(given, event) {
			checkToken(given);
			const done = state.events.then(() => handle(event));
			state.events = done.catch((error: unknown) => {
				log.warn("an event of the extension was refused", { jobId, type: event.type, error });
			});
			return done;
		},
		command(command) {
			if (command.type === "cancel") {
				cancel(command.code);
				return;
			}
			if (phases.phase === "frozen" && (command.type === "done" || command.type === "release")) {
				state.askerTold = true;
				const told = command.type === "done" && command.disks.some(({ ok }) => ok);
				if (told && !state.snapshotTold) noteSnapshot();
				state.snapshotTold ||= told;
			}
			if (!tell(command)) throw new StillpointError("extension-failed", "the extension of the job is not attached");
		},
		cancel,
		report: run(),
	};
}

/**
 * From SIGKILL until its process must be gone. One that a disk keeps in the kernel acts no more when it wakes: where
 * nothing can be frozen, the queue need not wait for it. (A freezer is waited for: it would complete a freeze.)
 */
const reapLimitMs = 5_000;

const quietPhases: readonly JobPhase[] = ["prepared", "scripts", "freezing", "frozen", "stuck"];

const cancelTexts: Record<CancelCode, string> = {
	cancelled: "the job was cancelled",
	stopping: "the service is stopping",
	"asker-lost": "who ordered the snapshot went away",
};
