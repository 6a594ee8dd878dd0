import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { version } from "../../../contracts/version.ts";
import type { TaskFacts } from "./azure-status.ts";
import type { TaskRecord } from "./task-store.ts";

export async function readTaskFacts(task: Pick<TaskRecord, "taskId" | "startTicks">): Promise<TaskFacts> {
	const machineId = await readFile("/etc/machine-id", "utf8").catch(() => "");
	const machineHash =
		machineId.trim() === "" ? "" : createHash("sha256").update(`azure ${machineId.trim()}`).digest("hex");
	return { taskId: task.taskId, startTicks: task.startTicks, machineHash, extensionVersion: version };
}

/** A job id is part of file names; a task id is what the service likes. */
export function jobIdOf(taskId: string): string {
	if (/^[A-Za-z0-9-]{1,58}$/.test(taskId)) return `azure-${taskId}`;
	return `azure-${createHash("sha256").update(taskId).digest("hex").slice(0, 32)}`;
}
