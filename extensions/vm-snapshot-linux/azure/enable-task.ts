/**
 * `enable` with settings: takes the task and hands it to a process of its own. Called again at every change and start of
 * the host, and killed at any instant, a task is run once and told in the end.
 *
 *   kept      told                  who is killed after it leaves to the next `enable`
 *   accepted                        to start the job
 *             N.status              the same
 *   mrseq                           the same
 *             (the job starts)      nothing; the job takes the task itself: see task-store.ts
 */
import { spawn } from "node:child_process";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { asStillpointError } from "../../../contracts/errors.ts";
import { loadProcessCalls } from "../../../platform/linux/freeze-calls.ts";
import { blankProtectedSettings } from "../../kit/blank-protected-settings.ts";
import { type HandlerEnvironment, readHandlerEnvironment } from "../../kit/handler-environment.ts";
import { findHandlerSettings, type HandlerSettings } from "../../kit/handler-settings.ts";
import { type MostRecentSequence, mostRecentSequence } from "../../kit/most-recent-sequence.ts";
import { azureCodeOf } from "./azure-codes.ts";
import { composeStatus, type TaskOutcome } from "./azure-status.ts";
import { type AzureCommand, findTaskId, parseAzureCommand } from "./azure-task.ts";
import { leaveOriginal } from "./leave-original.ts";
import { recoverTasks } from "./recover-tasks.ts";
import { asSettingsError } from "./settings-error.ts";
import { isEndTold, runningOutcome, writeStatusFiles } from "./status-files.ts";
import { jobIdOf, readTaskFacts } from "./task-facts.ts";
import { hadTasks, openTaskStore, type TaskRecord, type TaskStore } from "./task-store.ts";

export type EnableOptions = {
	readonly packageFolder: string;
	readonly runFolder: string;
	/** ConfigSequenceNumber; undefined when the host gives none. */
	readonly sequenceNumber: number | undefined;
	/** Program and words that run the job of a sequence number, and its environment. */
	readonly job: { readonly command: readonly [string, ...string[]]; readonly environment: NodeJS.ProcessEnv };
	/** Whether the extension can do its work on this machine; throws when it can't. */
	readonly check: () => Promise<void>;
	readonly now: () => Date;
};

type Enabling = EnableOptions & {
	readonly environment: HandlerEnvironment;
	readonly store: TaskStore;
	readonly mostRecent: MostRecentSequence;
};

/** What to say; undefined: the settings ask for nothing, so that being ready is all. @throws what hinders telling it */
export async function enableTask(options: EnableOptions): Promise<string | undefined> {
	const { packageFolder } = options;
	const environment = await readHandlerEnvironment(packageFolder);
	const isNew = !(await hadTasks(packageFolder));
	if (isNew && (await isEmptyFile(environment, options))) return undefined;
	// Secrets are in its memory from here on.
	(await loadProcessCalls()).forbidCoreDumps();
	if (isNew && (await hasNoSettings(options))) return undefined;
	await using store = await openTaskStore(packageFolder);
	await leaveOriginal(store, { ...options, configFolder: environment.configFolder });
	await recoverTasks(store, { ...options, environment });
	const enabling: Enabling = { ...options, environment, store, mostRecent: mostRecentSequence(packageFolder) };
	const { sequenceNumber } = options;
	if (sequenceNumber !== undefined && (await enabling.mostRecent.alreadyDone(sequenceNumber))) {
		return await answerAgain(enabling, sequenceNumber);
	}
	let settings: HandlerSettings | undefined;
	try {
		settings = await findHandlerSettings(packageFolder, { sequenceNumber });
	} catch (error) {
		return await refuse(enabling, sequenceNumber ?? 0, error);
	}
	if (settings === undefined || isEmpty(settings)) return undefined;
	return await enableSettings(enabling, settings);
}

const endedBefore: TaskOutcome = {
	status: "error",
	code: 2,
	message: "this task ended before, here or on the machine that this one is a copy of; it is not run again",
};

async function enableSettings(enabling: Enabling, settings: HandlerSettings): Promise<string | undefined> {
	const { store, mostRecent, environment, now } = enabling;
	const { sequenceNumber } = settings;
	const taskId = findTaskId(settings.publicSettings);
	const known = taskId === undefined ? undefined : store.tasks.find((one) => one.taskId === taskId);
	if (known !== undefined) {
		if (!known.sequenceNumbers.includes(sequenceNumber)) known.sequenceNumbers.push(sequenceNumber);
		await store.save();
		const outcome = known.state === "ended" ? endedBefore : runningOutcome;
		const status = known.outcome ?? composeStatus(await readTaskFacts(known), outcome);
		await writeStatusFiles(environment.statusFolder, { sequenceNumbers: [sequenceNumber] }, status, now());
		await mostRecent.begin(sequenceNumber);
		const isRead = known.state === "accepted" && known.sequenceNumbers[0] === sequenceNumber;
		if (!isRead) await blankProtectedSettings(settings.settingsFile);
		if (known.state === "accepted") startJobProcess(enabling, known);
		return `task ${known.taskId} is known: ${known.state}`;
	}
	let parsed: AzureCommand;
	try {
		parsed = parseAzureCommand(settings);
	} catch (error) {
		return await refuse(enabling, sequenceNumber, error, settings);
	}
	if (parsed.command === "install") return undefined;
	try {
		await enabling.check();
	} catch (error) {
		return await refuse(enabling, sequenceNumber, error, settings);
	}
	const record: TaskRecord = {
		taskId: parsed.task.taskId,
		jobId: jobIdOf(parsed.task.taskId),
		sequenceNumbers: [sequenceNumber],
		startTicks: parsed.task.startTicks,
		acceptedAt: now().toISOString(),
		state: "accepted",
	};
	store.tasks.unshift(record);
	await store.save();
	const status = composeStatus(await readTaskFacts(record), runningOutcome);
	await writeStatusFiles(environment.statusFolder, record, status, now());
	await mostRecent.begin(sequenceNumber);
	startJobProcess(enabling, record);
	return `task ${record.taskId} is accepted`;
}

/** The host enables what it enabled before. */
async function answerAgain(enabling: Enabling, sequenceNumber: number): Promise<string | undefined> {
	const { store, environment } = enabling;
	const known = store.tasks.find(({ sequenceNumbers }) => sequenceNumbers.includes(sequenceNumber));
	if (known?.state === "accepted") startJobProcess(enabling, known);
	if (known !== undefined) return `task ${known.taskId} is known: ${known.state}`;
	if (await isEndTold(environment.statusFolder, sequenceNumber)) return `${sequenceNumber} was done before`;
	const message = "interrupted: nothing is known of this task any more; it was begun before and is not run again";
	await tell(enabling, sequenceNumber, { status: "error", code: 2, message });
	return message;
}

/** Settings that can't be used are a task that has ended: the handler itself is well. */
async function refuse(
	enabling: Enabling,
	sequenceNumber: number,
	thrown: unknown,
	settings?: HandlerSettings,
): Promise<string> {
	const error = asStillpointError(asSettingsError(thrown));
	const message = `${error.code}: ${error.message}`;
	await tell(enabling, sequenceNumber, { status: "error", code: azureCodeOf(error), message }, settings);
	await enabling.mostRecent.begin(sequenceNumber);
	if (settings !== undefined) await blankProtectedSettings(settings.settingsFile);
	return message;
}

async function tell(
	{ environment, now }: Enabling,
	sequenceNumber: number,
	outcome: TaskOutcome,
	settings?: HandlerSettings,
): Promise<void> {
	const taskId = (settings && findTaskId(settings.publicSettings)) ?? "";
	const facts = await readTaskFacts({ taskId, startTicks: "" });
	const sequenceNumbers = [sequenceNumber];
	await writeStatusFiles(environment.statusFolder, { sequenceNumbers }, composeStatus(facts, outcome), now());
}

/** In a session of its own, so that the host's limit for `enable` is none for the job. */
function startJobProcess({ job, packageFolder }: Enabling, { sequenceNumbers }: TaskRecord): void {
	const [program, ...words] = job.command;
	const child = spawn(program, [...words, String(sequenceNumbers[0])], {
		cwd: packageFolder,
		env: job.environment,
		detached: true,
		stdio: "ignore",
	});
	// It is told by the next `enable`, which finds the task still to be taken.
	child.on("error", () => undefined);
	child.unref();
}

/** "No settings" of Azure's agents: an empty 0.settings. */
async function isEmptyFile(
	{ configFolder }: HandlerEnvironment,
	{ sequenceNumber = 0 }: EnableOptions,
): Promise<boolean> {
	const stats = await stat(join(configFolder, `${sequenceNumber}.settings`)).catch(() => undefined);
	return sequenceNumber === 0 && stats?.size === 0;
}

/** Settings that can't be read are some: that is told later. */
async function hasNoSettings({ packageFolder, sequenceNumber }: EnableOptions): Promise<boolean> {
	return findHandlerSettings(packageFolder, { sequenceNumber }).then(
		(settings) => settings === undefined || isEmpty(settings),
		() => false,
	);
}

function isEmpty({ publicSettings, protectedSettings }: HandlerSettings): boolean {
	return Object.keys(publicSettings).length === 0 && Object.keys(protectedSettings).length === 0;
}
