/** The agent put together: what each part needs is in its arguments, and nowhere else are two parts joined. */
import { mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { StillpointError } from "../contracts/errors.ts";
import type { SnapshotRequest } from "../contracts/extension.ts";
import type { HoldEvent } from "../contracts/hold-protocol.ts";
import type { AgentStatus } from "../contracts/local-calls.ts";
import type { Order } from "../contracts/order.ts";
import { version } from "../contracts/version.ts";
import { type MachineIdentity, readMachineIdentity } from "../platform/linux/machine-identity.ts";
import type { LedgerThawResult } from "../platform/linux/rescue-thaw.ts";
import { serveLocalChannel } from "../platform/local-channel.ts";
import { type ExtensionHost, makeExtensionHost } from "./extension-host/extension-host.ts";
import { findSnapshotExtension, requireSnapshotExtension } from "./extension-host/find-extensions.ts";
import { azureLimits } from "./extension-host/host-ports.ts";
import { startSnapshotCommand } from "./extension-host/run-snapshot.ts";
import { findStatusReport, statusPath, trimStatusFiles, writeStatusReport } from "./extension-host/status-file.ts";
import { findGuard } from "./guard/guard-file.ts";
import { cappedHoldMs, cappedStallMs } from "./hold-cap.ts";
import { makeInventory } from "./inventory.ts";
import { type JobRecords, makeJobRecords } from "./job-records.ts";
import { type JobRunner, makeJobRunner } from "./job-runner.ts";
import type { Journal } from "./journal.ts";
import { type ControllerLink, startControllerLink } from "./link/controller-link.ts";
import { type Enrolment, findEnrolment, writeEnrolment } from "./link/enrolment-file.ts";
import type { ControllerTransport } from "./link/link-transport.ts";
import { makeTicketFile } from "./link/ticket-file.ts";
import type { LoadedConfig } from "./load-config.ts";
import { makeLocalHandlers } from "./local-handlers.ts";
import type { Log } from "./log.ts";
import { isOtherMachine, lastingIdentity, parseIdentity } from "./machine-change.ts";
import { journalPutAsideName, openOwnJournal } from "./open-own-journal.ts";
import { judgeProtection } from "./protection.ts";
import { openReadersChannel } from "./readers-channel.ts";
import { recoverExtension } from "./recover-extension.ts";
import type { JobStart } from "./run-job.ts";
import type { Part } from "./run-parts.ts";
import { forgetSnapshotTold, noteSnapshotTold } from "./snapshot-told.ts";
import { closeUnfinishedJobs } from "./start-recovery.ts";
import type { WriteHold } from "./write-hold.ts";

/** Of the newest jobs: whether the machine is protected, and since when. */
const jobsJudged = 1_000;
/** Less than the extension waits for an answer. */
const inventoryLimitMs = 4_000;

export type AgentBase = {
	readonly loaded: LoadedConfig;
	readonly hold: WriteHold;
	readonly log: Log;
	readonly machine: MachineIdentity;
	/** What the start's first step thawed. */
	readonly thawed: readonly LedgerThawResult[];
	/** Packages that came with the program. */
	readonly shippedExtensions: readonly string[];
	readonly transport: ControllerTransport;
	readonly stopping: AbortSignal;
};

/** In the order of their start: calls are accepted last and refused first. */
export function composeAgent(base: AgentBase): Part[] {
	const { loaded, hold, log, machine, stopping } = base;
	const { config, folders } = loaded;
	const { stateDir, logDir, runDir } = folders;
	const socketPath = join(runDir, "agent.sock");
	const extensionsDir = join(stateDir, "extensions");
	const startedAt = new Date().toISOString();
	const inventory = makeInventory();
	// Each is set when its part starts, before any later part runs.
	const parts: {
		journal?: Journal;
		records?: JobRecords;
		extensions?: ExtensionHost;
		runner?: JobRunner;
		link?: ControllerLink;
	} = {};

	/** Left out where there is none: an older extension does not know the word. */
	function stallBudget(order: Order): Pick<SnapshotRequest, "stallBudgetMs"> {
		const stallBudgetMs = cappedStallMs(order, config.freeze.stallBudgetMs);
		return stallBudgetMs === undefined ? {} : { stallBudgetMs };
	}

	function prepare(order: Order): Pick<JobStart, "extension" | "makeRequest" | "ports"> {
		const extension = requireSnapshotExtension(require(parts.extensions).installed, config.extensions.snapshot);
		const { name, version } = extension;
		return {
			extension,
			makeRequest: (token) => ({
				schemaVersion: 1,
				order,
				holdLimitMs: cappedHoldMs(order, config.holdLimitCapMs),
				fileSystems: config.fileSystems,
				expedited: config.freeze.expedited,
				...stallBudget(order),
				tempDisks: config.tempDisks,
				scriptsFolder: config.scriptsFolder,
				otherScripts: config.otherScripts,
				runFolder: runDir,
				hostFolders: [...new Set([stateDir, logDir, extension.folder, dirname(process.execPath)])],
				statusFile: statusPath(extension.folder, order.jobId),
				extension: { name, version },
				channel: { socketPath, token },
			}),
			ports: {
				hold,
				log: log.child({ part: "job" }),
				runDir,
				stopLimitMs: config.stopLimitMs,
				startExtension: startSnapshotCommand,
				findStatusReport: ({ folder }, jobId) => findStatusReport(folder, jobId),
				recover: (one, jobId, signal) =>
					recoverExtension(one, { runDir, log: log.child({ part: "job" }), signal, jobId }),
				onPhase: (jobId, phase) => require(parts.records).setPhase(jobId, phase),
				onSnapshotTold: (jobId) => noteSnapshotTold(runDir, jobId),
				onStuck: tellAll,
				whenNothingStarts: () => inventory.ended(inventoryLimitMs),
			},
		};
	}

	function tellAll(event: HoldEvent): void {
		log.error("something may still be frozen", { event });
		if (parts.runner?.running?.asker.kind !== "link") parts.link?.tell(event);
	}

	/** The jobs are those of another machine: nobody is told of them. */
	async function disown(former: Enrolment, reason: StillpointError): Promise<void> {
		if (former.identityChanged !== undefined) return;
		const [records, journal] = [require(parts.records), require(parts.journal)];
		const seenHere = reason.details["seenHere"] === true;
		const now = lastingIdentity(await readMachineIdentity());
		const whose = await hold.write(() => parseIdentity(journal.readIdentity()));
		// What came after the journal learnt of the machine that it is on now is this machine's own.
		if (seenHere && whose !== undefined && !isOtherMachine(whose, now)) return;
		log.error("this machine is a copy of the one that was enrolled; enrol it anew", { reason: reason.message });
		await records.putAside(journalPutAsideName(stateDir));
		await hold.write(() => journal.writeIdentity(JSON.stringify(now)));
		if (seenHere) return;
		await hold.write(async () => {
			const kept = findEnrolment(stateDir);
			if (kept?.agentId !== former.agentId) return;
			const identityChanged = { at: new Date().toISOString(), reason: reason.message.slice(0, 4096) };
			await writeEnrolment(stateDir, { ...kept, identityChanged });
		});
	}

	/** With a controller: what it may know, which is nothing of another controller's jobs. */
	function readStatus(forController?: string): AgentStatus {
		const records = require(parts.records);
		const running = parts.runner?.running;
		const isHidden = forController !== undefined && (running?.asker.controller ?? forController) !== forController;
		const job = isHidden ? undefined : running;
		const reports = records.outbox.count(parts.link?.controller);
		const summary = job === undefined ? undefined : records.find(job.order.jobId)?.summary;
		const link = { enrolled: false, connected: false, ...parts.link?.state };
		const { installed } = require(parts.extensions);
		const guard = findGuard(runDir);
		return {
			schemaVersion: 1,
			version,
			pid: process.pid,
			hostname: hostname(),
			startedAt,
			link: {
				...link,
				unsentReports: reports.due,
				...(reports.heldBack === 0 || forController !== undefined ? {} : { heldBackReports: reports.heldBack }),
			},
			...(guard === undefined ? {} : { guard }),
			extensions: installed.map(({ name, version, state }) => ({ name, version, state })),
			...(summary === undefined ? {} : { job: summary }),
			frozen: (job?.frozenMountPoints() ?? []).map((mountPoint) => ({
				mountPoint,
				state: job?.phase === "freezing" ? "freezing" : "frozen",
			})),
			lastJobs: records.list(10, forController),
			protection: judgeProtection({
				jobs: records.list(jobsJudged, forController),
				wanted: config.protection,
				link,
				canSnapshot: findSnapshotExtension(installed, config.extensions.snapshot) !== undefined,
				nowMs: Date.now(),
			}),
		};
	}

	function readInventory(): Promise<Record<string, unknown>> {
		if (parts.runner?.running?.startsNothing)
			throw new StillpointError("job-running", "the inventory is not taken shortly before and while disks are frozen");
		return inventory.take(stopping);
	}

	return [
		{
			name: "journal",
			start() {
				const { journal, putAside } = openOwnJournal(stateDir, machine);
				if (putAside !== undefined) log.warn("the journal of another machine was put aside", { putAside });
				const records = makeJobRecords({ journal, hold, log: log.child({ part: "journal" }), runDir });
				Object.assign(parts, { records, journal });
				for (const one of base.thawed) log.warn("thawed what an earlier life left frozen", { ...one });
				for (const jobId of closeUnfinishedJobs(records, runDir)) log.warn("closed an interrupted job", { jobId });
				const stack = new AsyncDisposableStack();
				stack.use(journal);
				stack.use(records);
				return stack;
			},
		},
		{
			name: "extensions",
			async start() {
				mkdirSync(extensionsDir, { recursive: true, mode: 0o700 });
				const host = makeExtensionHost(
					{
						sources: [...base.shippedExtensions, ...config.extensions.installFrom],
						settingsFolder: config.extensions.settingsFolder,
						jobRuns: () => parts.runner?.running !== undefined,
					},
					{
						folders: { stateDir, extensionsDir, logDir },
						log: log.child({ part: "extensions" }),
						hold,
						stopping,
						mayStartPrograms: () => !hold.held && parts.runner?.running?.startsNothing !== true,
						bootId: machine.bootId,
						limits: azureLimits,
					},
				);
				parts.extensions = host;
				await host.start();
				for (const one of host.installed)
					await recoverExtension(one, { runDir, log: log.child({ part: "extensions" }), signal: stopping }).catch(
						(error: unknown) => log.error("what an earlier life left could not be undone", { error }),
					);
				return host;
			},
		},
		{
			name: "jobs",
			start() {
				const runner = makeJobRunner({
					records: require(parts.records),
					log: log.child({ part: "jobs" }),
					prepare,
					onEnded: (report, { folder }) => {
						forgetSnapshotTold(runDir, report.jobId);
						void hold
							.write(() => {
								if (findStatusReport(folder, report.jobId) === undefined) writeStatusReport(folder, report);
								trimStatusFiles(folder);
							})
							.catch((error: unknown) => log.warn("the status file could not be written", { error }));
					},
				});
				parts.runner = runner;
				return runner;
			},
		},
		{
			name: "local channel",
			async start() {
				// Not ended by `stopping`: the extension of a running job needs it to undo its work.
				const stopped = new AbortController();
				const runner = require(parts.runner);
				const handlers = makeLocalHandlers({
					runner,
					records: require(parts.records),
					readStatus,
					takeInventory: async () => await readInventory(),
					reloadLink: () => parts.link?.reload(),
					extensions: require(parts.extensions),
				});
				const channelLog = log.child({ part: "local" });
				const server = await serveLocalChannel({
					socketPath,
					handlers,
					isFrozen: () => runner.mayBeFrozen,
					signal: stopped.signal,
					onPeerFault: (error) => channelLog.warn("a peer was cut off", { error }),
				});
				const readers =
					config.readersGroup === undefined
						? undefined
						: await openReadersChannel({
								runDir,
								group: config.readersGroup,
								handlers,
								isFrozen: () => runner.mayBeFrozen,
								log: channelLog,
								signal: stopped.signal,
							});
				return {
					async [Symbol.asyncDispose]() {
						await runner[Symbol.asyncDispose]();
						await readers?.[Symbol.asyncDispose]();
						await server[Symbol.asyncDispose]();
					},
				};
			},
		},
		{
			name: "link",
			start() {
				// Like the channel: it must still tell the controller how the job of a stop ended.
				const stopped = new AbortController();
				const runner = require(parts.runner);
				const link = startControllerLink(
					{
						log: log.child({ part: "link" }),
						version,
						runner,
						outbox: require(parts.records).outbox,
						hold,
						stateDir,
						transport: base.transport,
						tickets: makeTicketFile(stateDir, hold),
						readMachine: readMachineIdentity,
						findEnrolment() {
							const enrolment = findEnrolment(stateDir);
							const { url } = config.controller;
							return enrolment === undefined || url === undefined ? enrolment : { ...enrolment, controllerUrl: url };
						},
						disown,
						answers: {
							status: async (controller) => readStatus(controller),
							inventory: async () => await readInventory(),
						},
					},
					stopped.signal,
				);
				parts.link = link;
				return {
					async [Symbol.asyncDispose]() {
						await runner[Symbol.asyncDispose]();
						await link.flush(1_000);
						await link[Symbol.asyncDispose]();
					},
				};
			},
		},
	];
}

function require<T>(part: T | undefined): T {
	if (part === undefined) throw new StillpointError("internal", "a part was used before its start");
	return part;
}
