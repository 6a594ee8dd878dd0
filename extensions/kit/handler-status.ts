import { join } from "node:path";
import { handlerStatusFileSchema } from "../../contracts/extension.ts";
import { instancePrefix } from "./instance-name.ts";
import { writeWholeFile } from "./write-whole-file.ts";

export type HandlerStatus = {
	/** The handler's name. */
	readonly name: string;
	/** What is done: the name of the command with a capital (`Enable`), or of the job that outlives it. */
	readonly operation: string;
	/** Terminal are success, warning and error; transitioning is to be told again at least every 2 min. */
	readonly status: "transitioning" | "success" | "warning" | "error";
	/** 0 is success; see "Commands, exit codes" of the Azure handler contract for negative and 1000-1012. */
	readonly code: number;
	readonly message: string;
	readonly substatus?: readonly {
		readonly name: string;
		readonly status: HandlerStatus["status"];
		readonly code: number;
		readonly message: string;
	}[];
};

/** The Azure agent cuts what is larger. */
const maxStatusBytes = 128 * 1024;
/** What it cuts to. */
const cutMessageLength = 1024;

/** Where a host looks for the status of a sequence number. @throws `settings-invalid` for a bad instance name */
export function statusFilePath(
	statusFolder: string,
	of: { sequenceNumber: number; extensionName?: string | undefined },
): string {
	return join(statusFolder, `${instancePrefix(of.extensionName)}${of.sequenceNumber}.status`);
}

/**
 * Azure's shape of a status file: an array of one. What would make it too large is cut: first the messages of its parts,
 * then its own, then the parts.
 */
export function statusFileContent(status: HandlerStatus, now: Date): string {
	const short = (status.substatus ?? []).map((one) => ({ ...one, message: "too large; see the report" }));
	const cut = status.message.slice(0, cutMessageLength);
	const candidates = [
		status,
		{ ...status, substatus: short },
		{ ...status, message: cut, substatus: short },
		{ ...status, message: cut, substatus: [] },
	];
	for (const candidate of candidates) {
		const text = render(candidate, now);
		if (Buffer.byteLength(text) <= maxStatusBytes) return text;
	}
	return render({ ...status, name: "", operation: "", message: cut, substatus: [] }, now);
}

function render(status: HandlerStatus, now: Date): string {
	const formatted = (message: string) => ({ lang: "en-US", message });
	const file = [
		{
			version: "1.0",
			timestampUTC: now.toISOString(),
			status: {
				name: status.name,
				operation: status.operation,
				status: status.status,
				code: status.code,
				formattedMessage: formatted(status.message),
				substatus: (status.substatus ?? []).map(({ message, ...one }) => ({
					...one,
					formattedMessage: formatted(message),
				})),
			},
		},
	];
	return JSON.stringify(handlerStatusFileSchema.parse(file));
}

/** Readers never see half of it. Overwrites. @throws what the file system says. */
export async function writeHandlerStatus(path: string, status: HandlerStatus, now: Date): Promise<void> {
	await writeWholeFile(path, statusFileContent(status, now));
}
