/** The process that makes the snapshot of one task: detached from the `enable` that started it, alone on the machine. */
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { StillpointError, worstError } from "../../../contracts/errors.ts";
import { loadProcessCalls, setOomScore } from "../../../platform/linux/freeze-calls.ts";
import { blankProtectedSettings } from "../../kit/blank-protected-settings.ts";
import { type HandlerEnvironment, readHandlerEnvironment } from "../../kit/handler-environment.ts";
import { readHandlerSettings } from "../../kit/handler-settings.ts";
import { systemClock } from "../clock.ts";
import { runJob } from "../run-job.ts";
import { checkTrust } from "../script-runner/prepare-applications.ts";
import { findFreezeDisabled } from "../script-runner/read-applications.ts";
import { startJob } from "../started-job.ts";
import { azureCodeOf } from "./azure-codes.ts";
import { statusFileText, type TaskFacts, type TaskOutcome } from "./azure-status.ts";
import { type AzureTask, parseAzureCommand } from "./azure-task.ts";
import { chooseDisks } from "./choose-disks.ts";
import { chooseProvider, sourceOf } from "./choose-provider.ts";
import { composeOutcome } from "./compose-outcome.ts";
import { composeRequest } from "./compose-request.ts";
import { endTask } from "./end-task.ts";
import type { GuestConfig } from "./guest-config.ts";
import { type InsideHost, openInsideHost } from "./inside-host.ts";
import { findLunDisks } from "./lun-disks.ts";
import { asSettingsError } from "./settings-error.ts";
import { renewStatus, type StatusRenewal } from "./status-files.ts";
import { readTaskFacts } from "./task-facts.ts";
import { openTaskStore, readOwnIdentity, type TaskRecord } from "./task-store.ts";
import { undoLeftovers } from "./undo-leftovers.ts";
import { uploadStatus } from "./upload-status.ts";
import { waitForMachine } from "./wait-for-machine.ts";

/** Of two that hold a freeze, the freezer must be the last that the OOM killer ends. */
const oomScore = -900;

export type AzureJobOptions = {
	readonly packageFolder: string;
	readonly sequenceNumber: number;
	readonly config: GuestConfig;
	/** Of the host below: `HOST` or `HOST:PORT`. */
	readonly hostAddress: string;
	readonly signal: AbortSignal;
	readonly now: () => Date;
};

type TaskRun = AzureJobOptions & {
	readonly environment: HandlerEnvironment;
	readonly record: TaskRecord;
	readonly facts: TaskFacts;
	readonly renewal: StatusRenewal;
};

/** What the service gets besides, when the next task may begin already. */
type Upload = { readonly uri: string; readonly status: Record<string, unknown> };

/** Runs the task of the sequence number if nobody did. Its end is told by its status file only. */
export async function runAzureJob(options: AzureJobOptions): Promise<void> {
	const { packageFolder, config, signal, now } = options;
	setOomScore(oomScore);
	// Secrets are in its memory from here on.
	(await loadProcessCalls()).forbidCoreDumps();
	const environment = await readHandlerEnvironment(packageFolder);
	const { statusFolder } = environment;
	const record = await findAccepted(options);
	if (record === undefined) return;
	const facts = await readTaskFacts(record);
	await using renewal = renewStatus({ packageFolder, statusFolder, facts, now });
	let isClaimed = false;
	// Another process may have taken it while this one waited.
	const isOurs = ({ state }: TaskRecord) => isClaimed || state === "accepted";
	const end = (outcome: TaskOutcome) => endTask(packageFolder, { environment, facts, outcome, now: now(), isOurs });
	let upload: Upload | undefined;
	try {
		await using _machine = await waitForMachine({ ...config, limitMs: config.startWithinMs, signal });
		await requireUndone(config.runFolder);
		isClaimed = await claim(options, record.taskId);
		if (!isClaimed) return;
		upload = await runTask({ ...options, environment, record, facts, renewal });
	} catch (thrown) {
		const error = worstError(thrown);
		await end({ status: "error", code: azureCodeOf(error), message: `${error.code}: ${error.message}` });
	}
	if (upload === undefined) return;
	const { uri, status } = upload;
	await uploadStatus(uri, statusFileText(status, now(), "azure")).catch((error: Error) =>
		note(environment.logFolder, `${record.jobId}: the status could not be uploaded: ${error.message}`, now()),
	);
}

async function runTask(run: TaskRun): Promise<Upload | undefined> {
	const { config, hostAddress: address, environment, facts, renewal } = run;
	const task = await readTask(run);
	const findDisks = () => findLunDisks({ linksFolder: config.diskLinksFolder, sysFolder: "/sys" });
	const disks = chooseDisks(task, await findDisks());
	const freezes = (await findFreezeDisabled(config.otherScripts, checkTrust)) === undefined;
	const request = composeRequest(task, disks, { ...run, jobId: run.record.jobId, freezes });
	let status: Record<string, unknown> | undefined;
	let problem = "";
	await using host: InsideHost = openInsideHost({
		request,
		signal: run.signal,
		taskStartedAtMs: task.startedAtMs,
		now: run.now,
		choose: (signal) => {
			const source = sourceOf(task, config.takeSnapshotFrom);
			return chooseProvider(task, disks, {
				source,
				address,
				requestLimitMs: config.hostRequestLimitMs,
				findDisks,
				signal,
			});
		},
		onQuiet: () => renewal.hold(),
		onThawed: () => renewal.release(),
		onStuck: (mountPoints) => {
			problem = `may still be frozen: ${mountPoints.join(", ")}; run: stillpoint thaw`;
		},
		onReport: async (report) => {
			const outcome = composeOutcome(host, report, problem);
			status = await endTask(run.packageFolder, { environment, facts, outcome, now: run.now() });
		},
	});
	{
		await using started = startJob(request, systemClock());
		await runJob(host, started);
	}
	return status === undefined || task.statusBlobUri === undefined ? undefined : { uri: task.statusBlobUri, status };
}

/** Reads the settings, and takes the secrets out of the file: from here on they are in memory only. */
async function readTask({ packageFolder, sequenceNumber, record }: TaskRun): Promise<AzureTask> {
	const settings = await readHandlerSettings(packageFolder, { sequenceNumber }).catch((error: unknown) => {
		throw asSettingsError(error);
	});
	await blankProtectedSettings(settings.settingsFile);
	const parsed = parseAzureCommand(settings);
	if (parsed.command === "snapshot" && parsed.task.taskId === record.taskId) return parsed.task;
	throw new StillpointError("settings-invalid", `${settings.settingsFile} was replaced before its task began`);
}

async function findAccepted({ packageFolder, sequenceNumber }: AzureJobOptions): Promise<TaskRecord | undefined> {
	await using store = await openTaskStore(packageFolder);
	const task = store.tasks.find(({ sequenceNumbers }) => sequenceNumbers.includes(sequenceNumber));
	return task?.state === "accepted" ? task : undefined;
}

/** What makes a task run once: whoever comes second finds it taken. */
async function claim({ packageFolder }: AzureJobOptions, taskId: string): Promise<boolean> {
	await using store = await openTaskStore(packageFolder);
	const task = store.tasks.find((one) => one.taskId === taskId);
	const identity = await readOwnIdentity();
	if (task?.state !== "accepted" || identity === undefined) return false;
	task.state = "running";
	task.process = identity;
	await store.save();
	return true;
}

async function requireUndone(runFolder: string): Promise<void> {
	const left = await undoLeftovers(runFolder);
	if (left.length === 0) return;
	const where = left.map(({ mountPoint, ledger }) => mountPoint || ledger).join(", ");
	throw new StillpointError("stuck", `an earlier snapshot may still hold: ${where}; run: stillpoint thaw`);
}

async function note(logFolder: string, text: string, now: Date): Promise<void> {
	const line = `${now.toISOString()} ${text}\n`;
	await appendFile(join(logFolder, "extension.log"), line, { mode: 0o600 }).catch(() => undefined);
}
