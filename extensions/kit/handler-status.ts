import { open, rename, rm } from "node:fs/promises";
import { handlerStatusFileSchema } from "../../contracts/extension.ts";

export type HandlerStatus = {
	/** The handler's name. */
	readonly name: string;
	readonly operation: string;
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

/** Azure's shape of a status file: an array of one. A message that would make it too large is cut. */
export function statusFileContent(status: HandlerStatus, now: Date): string {
	const substatus = (status.substatus ?? []).map((one) => ({
		name: one.name,
		status: one.status,
		code: one.code,
		formattedMessage: { lang: "en-US", message: one.message },
	}));
	const file = (parts: typeof substatus) =>
		JSON.stringify(
			handlerStatusFileSchema.parse([
				{
					version: "1.0",
					timestampUTC: now.toISOString(),
					status: {
						name: status.name,
						operation: status.operation,
						status: status.status,
						code: status.code,
						formattedMessage: { lang: "en-US", message: status.message },
						substatus: parts,
					},
				},
			]),
		);
	const whole = file(substatus);
	if (Buffer.byteLength(whole) <= maxStatusBytes) return whole;
	return file(
		substatus.map((one) => ({ ...one, formattedMessage: { lang: "en-US", message: "too large; see the report" } })),
	);
}

/** Readers never see half of it: written beside and renamed. Overwrites. @throws what the file system says. */
export async function writeHandlerStatus(path: string, status: HandlerStatus, now: Date): Promise<void> {
	const beside = `${path}.new-${process.pid}`;
	try {
		{
			await using file = await open(beside, "w", 0o600);
			await file.writeFile(statusFileContent(status, now));
			await file.sync();
		}
		await rename(beside, path);
	} catch (error) {
		await rm(beside, { force: true }).catch(() => undefined);
		throw error;
	}
}
