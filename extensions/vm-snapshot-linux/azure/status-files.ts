import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeWholeFile } from "../../kit/write-whole-file.ts";
import { composeStatus, statusFileText, type TaskFacts, type TaskOutcome } from "./azure-status.ts";
import { openTaskStore, type TaskRecord } from "./task-store.ts";

/** The contract wants a running task told again every two minutes. */
const renewMs = 45_000;
const endedStates = ["success", "error", "warning"];

/** Writes the status file of every sequence number that asked for the task. @throws what the file system says */
export async function writeStatusFiles(
	statusFolder: string,
	task: Pick<TaskRecord, "sequenceNumbers">,
	status: Record<string, unknown>,
	now: Date,
): Promise<void> {
	const text = statusFileText(status, now);
	for (const number of task.sequenceNumbers) await writeWholeFile(join(statusFolder, `${number}.status`), text);
}

/** Whether a status file already says how its task ended. */
export async function isEndTold(statusFolder: string, sequenceNumber: number): Promise<boolean> {
	try {
		const content: unknown = JSON.parse(await readFile(join(statusFolder, `${sequenceNumber}.status`), "utf8"));
		const [first] = content as { status: { status: string } }[];
		return endedStates.includes(first?.status.status ?? "");
	} catch {
		return false;
	}
}

export const runningOutcome: TaskOutcome = {
	status: "transitioning",
	code: 4,
	message: "the snapshot is being made",
};

export type StatusRenewal = AsyncDisposable & {
	/** From its end on nothing is written, nor locked. */
	hold(): Promise<void>;
	release(): void;
};

/** Says again and again that the task runs, also for whoever asked for it later. */
export function renewStatus(given: {
	readonly packageFolder: string;
	readonly statusFolder: string;
	readonly facts: TaskFacts;
	readonly now: () => Date;
	readonly everyMs?: number;
}): StatusRenewal {
	let isHeld = false;
	let writing: Promise<void> = Promise.resolve();
	const timer = setInterval(renew, given.everyMs ?? renewMs);

	function renew(): void {
		if (isHeld) return;
		// What can't be written now is written the next time, or at the end.
		writing = writing.then(write).catch(() => undefined);
	}

	async function write(): Promise<void> {
		await using store = await openTaskStore(given.packageFolder);
		const task = store.tasks.find(({ taskId }) => taskId === given.facts.taskId);
		if (isHeld || task === undefined || task.state === "ended") return;
		await writeStatusFiles(given.statusFolder, task, composeStatus(given.facts, runningOutcome), given.now());
	}

	return {
		async hold() {
			isHeld = true;
			await writing;
		},
		release() {
			isHeld = false;
		},
		async [Symbol.asyncDispose]() {
			clearInterval(timer);
			isHeld = true;
			await writing;
		},
	};
}
