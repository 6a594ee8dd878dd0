/**
 * The host of a job that nobody outside accompanies: it asks for the freeze, takes the snapshots by a provider and lets
 * go, in one process with the job. The job is the same as under our own agent.
 *
 *   job        prepared                freezing          frozen            thawed       report
 *   here       provider prepares       all is connected  provider takes    describes    `onReport`
 *   answer     freeze | release        quiet             taken..., done    described
 */
import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import type { ExtensionEvent, SnapshotRequest } from "../../../contracts/extension.ts";
import type { PlannedDisk, SnapshotOutcome } from "../../../contracts/hold-protocol.ts";
import type { Report } from "../../../contracts/report.ts";
import { CommandInbox } from "../../kit/command-inbox.ts";
import type { SnapshotHost } from "../../kit/snapshot-host.ts";
import { type AzureCode, azureCodeOf } from "./azure-codes.ts";
import type { ChosenProvider, DiskSnapshot, SnapshotProvider, Taken } from "./snapshot-provider.ts";

/** Azure's limit for a task from its start by the service's clock. */
const maxAgeMs = 140 * 60_000;
/** Of the job's 2 s for `quiet`. */
const readyLimitMs = 1_500;
/** From the provider's limit to the end of the hold, so that an answer that comes last still counts. */
const holdMarginMs = 300;

export type InsideHostOptions = {
	readonly request: SnapshotRequest;
	/** To this process. */
	readonly signal: AbortSignal;
	readonly choose: (signal: AbortSignal) => Promise<ChosenProvider>;
	readonly taskStartedAtMs: number | undefined;
	readonly now: () => Date;
	/** Ends all writing to disks, and resolves when none is under way. */
	readonly onQuiet: () => Promise<void>;
	readonly onThawed: () => void;
	readonly onStuck: (mountPoints: readonly string[]) => void;
	/** Told once. */
	readonly onReport: (report: Report) => Promise<void>;
};

export type InsideHost = SnapshotHost & {
	readonly taken: Taken | undefined;
	/** Azure's code of what the provider failed with. */
	readonly failure: AzureCode | undefined;
	readonly passedOver: readonly string[];
};

function outcomeOf({ disk, ok, snapshotId, error }: DiskSnapshot, provider: string): SnapshotOutcome {
	return {
		name: disk.name,
		ok,
		provider,
		...(snapshotId === undefined ? {} : { snapshotId }),
		...(error === undefined ? {} : { error }),
	};
}

export function openInsideHost(options: InsideHostOptions): InsideHost {
	const { request } = options;
	const { jobId } = request.order;
	const ending = new AbortController();
	const commands = new CommandInbox();
	let provider: SnapshotProvider | undefined;
	let planned: readonly PlannedDisk[] = [];
	let perDisk = false;
	let passedOver: readonly string[] = [];
	let taken: Taken | undefined;
	let failure: AzureCode | undefined;
	const onSignal = () => ending.abort(asStillpointError(options.signal.reason));
	options.signal.addEventListener("abort", onSignal, { once: true });
	if (options.signal.aborted) onSignal();

	async function prepare(): Promise<void> {
		try {
			const chosen = await options.choose(ending.signal);
			provider = chosen.provider;
			passedOver = chosen.passedOver.map(({ message }) => message);
			requireInTime(provider.otherClockMs ?? options.now().getTime());
			commands.push({ type: "freeze", jobId });
		} catch (thrown) {
			const error = asStillpointError(thrown);
			failure = azureCodeOf(error);
			commands.push({ type: "release", jobId, error: error.toJSON() });
		}
	}

	function requireInTime(nowMs: number): void {
		const ageMs = nowMs - (options.taskStartedAtMs ?? nowMs);
		if (ageMs <= maxAgeMs) return;
		throw new StillpointError("order-expired", `the task began ${Math.floor(ageMs / 60_000)} minutes ago`);
	}

	async function beQuiet(): Promise<void> {
		try {
			await Promise.all([provider?.ready(readyLimitMs), options.onQuiet()]);
			commands.push({ type: "quiet", jobId });
		} catch (thrown) {
			const error = asStillpointError(thrown);
			failure = azureCodeOf(error);
			ending.abort(error);
		}
	}

	async function take(leftMs: number): Promise<void> {
		if (provider === undefined) return;
		const { name } = provider;
		taken = await provider.take(Math.max(1, leftMs - holdMarginMs), (disk) => {
			if (perDisk) commands.push({ type: "taken", jobId, disk: outcomeOf(disk, name) });
		});
		failure = taken.failure;
		const disks = taken.disks.map((disk) => outcomeOf(disk, name));
		commands.push({ type: "done", jobId, disks });
	}

	async function describe(): Promise<void> {
		const disks = taken === undefined ? [] : await provider?.describe(taken, planned).catch(() => []);
		commands.push({ type: "described", jobId, disks: [...(disks ?? [])] });
	}

	/** What takes time goes on beside: an event is told as soon as it is heard. */
	async function hear(event: ExtensionEvent): Promise<void> {
		switch (event.type) {
			case "prepared":
				planned = event.disks;
				perDisk = event.perDisk === true;
				void prepare();
				return;
			case "freezing":
				void beQuiet();
				return;
			case "frozen":
				void take(event.leftMs);
				return;
			case "thawed":
				options.onThawed();
				void describe();
				return;
			case "stuck":
				options.onStuck(event.fileSystems);
				return;
			case "report":
				await options.onReport(event.report);
				return;
			case "phase":
			case "targets":
				return;
		}
	}

	return {
		request,
		ending: ending.signal,
		commands,
		send: hear,
		get taken() {
			return taken;
		},
		get failure() {
			return failure;
		},
		get passedOver() {
			return passedOver;
		},
		[Symbol.asyncDispose]() {
			options.signal.removeEventListener("abort", onSignal);
			provider?.[Symbol.dispose]();
			return Promise.resolve();
		},
	};
}
