import type { TaskRecord } from "./task-store.ts";

/** With how they ended: up to 128 KiB each. */
const toldTasks = 8;
/** By their ids, so that they are not run again. The service gives up a task after 140 minutes. */
const knownTasks = 1_000;

/** What is kept of the tasks, the newest first: one that has not ended always. */
export function keepTasks(tasks: readonly TaskRecord[]): TaskRecord[] {
	let ended = 0;
	return tasks.flatMap((task) => {
		if (task.state !== "ended") return [task];
		ended += 1;
		if (ended <= toldTasks) return [task];
		const { outcome: _, ...known } = task;
		return ended <= knownTasks ? [known] : [];
	});
}

/** The tasks of the machine that this one is a copy of: never run here, and their numbers are free. */
export function disown({ taskId, jobId, startTicks, acceptedAt }: TaskRecord): TaskRecord {
	return { taskId, jobId, startTicks, acceptedAt, sequenceNumbers: [], state: "ended" };
}
