import { join } from "node:path";
import { writeWholeFile } from "./write-whole-file.ts";

export type HandlerEvent = {
	readonly level: "Error" | "Warning" | "Informational" | "Verbose";
	/** What was done. */
	readonly task: string;
	readonly message: string;
	/** Ties events of one run together. */
	readonly operationId?: string;
};

/** Azure's agents drop what is larger. */
const maxMessageLength = 3_072;

/**
 * Leaves an event for the host to collect, as a file named by digits. Delivery is at most once: the host empties the
 * folder. No secrets: events leave the machine.
 */
export async function writeHandlerEvent(
	eventsFolder: string,
	event: HandlerEvent,
	by: { version: string; now: Date; pid: number },
): Promise<void> {
	const record = {
		Version: by.version,
		Timestamp: by.now.toISOString(),
		TaskName: event.task,
		EventLevel: event.level,
		Message: event.message.slice(0, maxMessageLength),
		EventPid: String(by.pid),
		EventTid: String(by.pid),
		OperationId: event.operationId ?? "",
	};
	// Names are digits only; the hrtime tells two of one millisecond apart.
	const name = `${by.now.getTime()}${String(process.hrtime.bigint() % 1_000_000n).padStart(6, "0")}.json`;
	await writeWholeFile(join(eventsFolder, name), JSON.stringify([record]));
}
