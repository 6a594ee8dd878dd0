import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../../contracts/errors.ts";
import { isSameProcessAlive } from "../../../platform/linux/process-identity.ts";
import { readHandlerEnvironment } from "../../kit/handler-environment.ts";
import { endTaskIn } from "./end-task.ts";
import { recoverTasks } from "./recover-tasks.ts";
import { readTaskFacts } from "./task-facts.ts";
import { isRunning, openTaskStore, type TaskRecord } from "./task-store.ts";

const pollMs = 50;

/**
 * `disable`: what waits is never run, what runs is cancelled; returns when it is thawed and told.
 * @throws `deadline-passed` when the kernel does not let go in time: the job goes on thawing then
 */
export async function disableTasks(given: {
	readonly packageFolder: string;
	readonly runFolder: string;
	readonly limitMs: number;
	readonly now: () => Date;
}): Promise<string> {
	const { packageFolder, now } = given;
	const environment = await readHandlerEnvironment(packageFolder);
	const running = await cancelWaiting();
	for (const task of running) {
		const identity = task.process;
		if (identity === undefined || !(await isRunning(task))) continue;
		process.kill(identity.pid, "SIGTERM");
		const deadline = performance.now() + given.limitMs;
		while (isSameProcessAlive(identity)) {
			if (performance.now() >= deadline) {
				throw new StillpointError("deadline-passed", `the job did not end within ${given.limitMs} ms`);
			}
			await sleep(pollMs);
		}
	}
	await using store = await openTaskStore(packageFolder);
	await recoverTasks(store, { ...given, environment });
	return running.length === 0 ? "nothing runs" : "the snapshot was cancelled, and everything is thawed";

	async function cancelWaiting(): Promise<TaskRecord[]> {
		await using store = await openTaskStore(packageFolder);
		for (const task of store.tasks.filter(({ state }) => state === "accepted")) {
			const outcome = { status: "error", code: 2, message: "cancelled: the extension was disabled" } as const;
			await endTaskIn(store, { environment, facts: await readTaskFacts(task), outcome, now: now() });
		}
		return store.tasks.filter(({ state }) => state === "running");
	}
}
