import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../contracts/errors.ts";
import { handlerStatusFileSchema } from "../../contracts/extension.ts";
import type { StatusReport } from "./handler.ts";
import { type HandlerStatus, writeHandlerStatus } from "./handler-status.ts";
import { maskSecrets } from "./mask-secrets.ts";
import { readLimitedFile } from "./read-limited-file.ts";

export type StatusReporter = {
	/** @throws `state-unusable` when it cannot be written */
	report(report: StatusReport): Promise<void>;
	/** Whether the last one said an end. */
	isTerminal(): boolean;
	/** Tells `transitioning` again until the signal: a host takes silence for death. */
	repeat(signal: AbortSignal, intervalMs?: number): Promise<void>;
};

/** Azure asks for a sign of life every 2 min. */
const repeatMs = 60_000;

/** Writes the status file of one sequence number. Texts of the protected settings are masked. */
export function openStatusReporter(given: {
	path: string;
	name: string;
	operation: string;
	now: () => Date;
	protectedSettings: Readonly<Record<string, unknown>>;
}): StatusReporter {
	const { path, name, operation, now } = given;
	const mask = (text: string) => maskSecrets(text, given.protectedSettings);
	let last: HandlerStatus | undefined;
	let writing: Promise<void> = Promise.resolve();
	/** One after another; what is to be written is asked for when its turn comes. */
	const write = (find: () => HandlerStatus | undefined) => {
		writing = writing
			.catch(() => undefined)
			.then(async () => {
				const status = find();
				if (status === undefined) return;
				await mkdir(dirname(path), { recursive: true, mode: 0o700 });
				await writeHandlerStatus(path, status, now());
				last = status;
			})
			.catch((cause: Error) => {
				throw new StillpointError("state-unusable", `${path}: ${cause.message}`, { cause });
			});
		return writing;
	};
	return {
		async report(report) {
			const code = report.code ?? (report.status === "error" ? 1 : 0);
			const substatus = (report.substatus ?? []).map((one) => ({ ...one, message: mask(one.message) }));
			const status = { ...report, name, operation, code, substatus, message: mask(report.message) };
			await write(() => status);
		},
		isTerminal: () => last !== undefined && last.status !== "transitioning",
		async repeat(signal, intervalMs = repeatMs) {
			while (!signal.aborted) {
				await sleep(intervalMs, undefined, { signal, ref: false }).catch(() => undefined);
				// Never over an end that was told meanwhile.
				if (!signal.aborted)
					await write(() => (last?.status === "transitioning" ? last : undefined)).catch(() => undefined);
			}
		},
	};
}

/** The state that a status file tells; undefined when there is none or it is none. */
export async function findStatus(path: string): Promise<HandlerStatus["status"] | undefined> {
	const text = await readLimitedFile(path, 1024 * 1024).catch(() => undefined);
	if (text === undefined) return undefined;
	try {
		return handlerStatusFileSchema.parse(JSON.parse(text))[0]?.status.status;
	} catch {
		return undefined;
	}
}
