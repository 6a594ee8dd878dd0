import { join } from "node:path";
import { blankProtectedSettings } from "../../kit/blank-protected-settings.ts";
import type { HandlerEnvironment } from "../../kit/handler-environment.ts";
import { composeStatus, type TaskFacts, type TaskOutcome } from "./azure-status.ts";
import { writeStatusFiles } from "./status-files.ts";
import { openTaskStore, type TaskRecord, type TaskStore } from "./task-store.ts";

export type EndOfTask = {
	readonly environment: HandlerEnvironment;
	readonly facts: TaskFacts;
	readonly outcome: TaskOutcome;
	readonly now: Date;
	/** Whether it is ours to end; any task that has no end yet, by default. */
	readonly isOurs?: (task: TaskRecord) => boolean;
};

/**
 * The one end of a task: kept first, told then, and its secrets taken out of the settings. Whoever is killed in between
 * leaves the telling to the next `enable`.
 * Returns the status, or undefined when the task was ended before or is another's.
 */
export async function endTask(packageFolder: string, end: EndOfTask): Promise<Record<string, unknown> | undefined> {
	await using store = await openTaskStore(packageFolder);
	return await endTaskIn(store, end);
}

/** The same by who has the store already. */
export async function endTaskIn(store: TaskStore, end: EndOfTask): Promise<Record<string, unknown> | undefined> {
	const task = store.tasks.find(({ taskId }) => taskId === end.facts.taskId);
	if (task === undefined || task.state === "ended" || end.isOurs?.(task) === false) return undefined;
	const status = composeStatus(end.facts, end.outcome);
	task.state = "ended";
	task.outcome = status;
	delete task.process;
	await store.save();
	await writeStatusFiles(end.environment.statusFolder, task, status, end.now);
	for (const number of task.sequenceNumbers) {
		const settingsFile = join(end.environment.configFolder, `${number}.settings`);
		// Taken out already, or not there any more.
		await blankProtectedSettings(settingsFile).catch(() => undefined);
	}
	return status;
}
