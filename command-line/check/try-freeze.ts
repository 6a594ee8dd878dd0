/**
 * A real freeze of milliseconds, by the road of a job: the extension's process, its freezer with a deadline, and this
 * process as the third holder. It is no job of the agent's: nothing is recorded, and no script runs.
 */
import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import winston from "winston";
import type { Asker } from "../../agent/asker.ts";
import { readManifest } from "../../agent/extension-host/read-manifest.ts";
import { startSnapshotCommand } from "../../agent/extension-host/run-snapshot.ts";
import type { LoadedConfig } from "../../agent/load-config.ts";
import { type RunningJob, startJob } from "../../agent/run-job.ts";
import { makeWriteHold } from "../../agent/write-hold.ts";
import { StillpointError } from "../../contracts/errors.ts";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import { localCalls } from "../../contracts/local-calls.ts";
import { type DiskSelection, orderSchema } from "../../contracts/order.ts";
import { noOtherScripts } from "../../contracts/other-scripts.ts";
import type { Report } from "../../contracts/report.ts";
import { findFileLock } from "../../platform/linux/file-lock.ts";
import { thawFromLedgers } from "../../platform/linux/rescue-thaw.ts";
import { type LocalHandlers, serveLocalChannel } from "../../platform/local-channel.ts";
import { checkRunFolder } from "./check-run-folder.ts";

/** All three holders thaw by themselves after this. */
const holdLimitMs = 5_000;
const prepareLimitMs = 60_000;

/**
 * Ends when everything is thawed, or was told to be stuck in the report.
 * @throws `job-running` when another check freezes
 */
export async function tryFreeze(
	{ config, folders }: Pick<LoadedConfig, "config" | "folders">,
	disks: DiskSelection,
	/** Where nothing less is foreseen than file-system, a freeze that fails tells its reason. */
	acceptLevel: "file-system" | "crash",
	signal: AbortSignal,
): Promise<Report> {
	const runFolder = checkRunFolder(folders.runDir);
	await mkdir(runFolder, { recursive: true, mode: 0o700 });
	await using undo = new AsyncDisposableStack();
	const lock = await findFileLock(join(runFolder, "job.lock"));
	if (lock === undefined) throw new StillpointError("job-running", "another check tries to freeze");
	undo.use(lock);
	await thawFromLedgers(runFolder, { signal });
	const extension = await findOwnExtension();
	const { name, version } = extension;
	const socketPath = join(runFolder, "agent.sock");
	const order = orderSchema.parse({
		jobId: `check-${randomUUID()}`,
		level: "file-system",
		acceptLevel,
		disks,
		holdLimitMs,
		prepareLimitMs,
		snapshot: "unknown",
	});
	const request = (token: string): SnapshotRequest => ({
		schemaVersion: 1,
		order,
		holdLimitMs: Math.min(holdLimitMs, config.holdLimitCapMs),
		fileSystems: config.fileSystems,
		tempDisks: config.tempDisks,
		scriptsFolder: join(runFolder, "no-scripts"),
		otherScripts: noOtherScripts,
		runFolder,
		hostFolders: [folders.stateDir, folders.logDir, extension.folder, dirname(process.execPath)],
		statusFile: join(runFolder, "try.status"),
		extension: { name, version },
		channel: { socketPath, token },
	});
	const seat = Promise.withResolvers<RunningJob>();
	const channel = new AbortController();
	undo.use(
		await serveLocalChannel({
			socketPath,
			handlers: {
				...refuseAll(),
				"extension.attach": async ({ token }, caller) => {
					(await seat.promise).attach(token, caller);
					return {};
				},
				"extension.event": async ({ token, event }) => {
					await (await seat.promise).event(token, event);
					return {};
				},
			},
			isFrozen: () => false,
			signal: channel.signal,
		}),
	);
	const asker: Asker = {
		kind: "local",
		closed: new AbortController().signal,
		send(event) {
			if (event.type === "prepared") tell({ type: "freeze", jobId: order.jobId });
			if (event.type === "frozen") tell({ type: "release", jobId: order.jobId });
		},
	};
	// The job tells its asker while it is being made.
	function tell(command: Parameters<RunningJob["command"]>[0]): void {
		void seat.promise.then((job) => job.command(command)).catch(() => undefined);
	}
	const job = startJob({
		order,
		asker,
		extension,
		makeRequest: request,
		ports: {
			hold: makeWriteHold(),
			log: winston.createLogger({ silent: true }),
			runDir: runFolder,
			stopLimitMs: config.stopLimitMs,
			startExtension: startSnapshotCommand,
			findStatusReport: () => undefined,
			onPhase: () => undefined,
			onSnapshotTold: () => undefined,
			onStuck: () => undefined,
			recover: () => Promise.resolve([]),
			whenNothingStarts: () => Promise.resolve(),
		},
	});
	seat.resolve(job);
	const onStop = () => job.cancel("cancelled");
	signal.addEventListener("abort", onStop, { once: true });
	undo.defer(() => signal.removeEventListener("abort", onStop));
	if (signal.aborted) onStop();
	const report = await job.report;
	// A ledger that is needed for the rescue stays.
	if (report.error?.code !== "stuck") await rm(runFolder, { recursive: true, force: true });
	return report;
}

/** The package that came with this program, whatever is installed. */
async function findOwnExtension(): Promise<Parameters<typeof startJob>[0]["extension"]> {
	const isSource = import.meta.url.endsWith(".ts");
	const where = isSource ? "../../extensions/vm-snapshot-linux" : "extensions/VMSnapshotLinux";
	const folder = fileURLToPath(new URL(where, import.meta.url));
	const manifest = await readManifest(folder);
	return { name: manifest.name, version: manifest.version, folder, manifest, state: "Enabled" };
}

function refuseAll(): LocalHandlers {
	const refuse = () => Promise.reject(new StillpointError("not-allowed", "a check answers its own extension only"));
	return Object.fromEntries(Object.keys(localCalls).map((name) => [name, refuse])) as unknown as LocalHandlers;
}
