import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { checkShape } from "../../contracts/check-shape.ts";
import { handlerErrorCodes, readStatusFileSchema } from "../../contracts/handler-files.ts";
import { findSmallFile } from "../../platform/read-small-file.ts";
import { findSmallJson } from "../../platform/read-small-json.ts";
import { instanceFile } from "./handler-files.ts";
import { replaceFile } from "./replace-file.ts";

export type StatusWord = "transitioning" | "success" | "warning" | "error";

export type HandlerStatusRead = {
	readonly status: StatusWord;
	readonly code: number;
	readonly message: string;
	readonly substatus: readonly { name: string; status: StatusWord; code: number; message: string }[];
	/** When the file was written; undefined when there is none. */
	readonly writtenMs?: number;
};

/** Azure's limits: what is larger than the first is cut to the others. */
const wholeBytes = 128 * 1024;
const cutMessageChars = 1_024;
const cutSubstatusChars = 10 * 1_024;
const maxSubstatus = 256;
/** More than this is not read at all. */
const maxBytes = 8 * 1024 * 1024;

export function handlerStatusPath(statusFolder: string, sequenceNumber: number, instance: string | undefined): string {
	return join(statusFolder, instanceFile(instance, `${sequenceNumber}.status`));
}

/**
 * The status of a sequence number as its handler wrote it, maybe just now and not atomically: a file that is not whole
 * is read again. None is `transitioning`; one that stays malformed is error 1012.
 */
export async function readHandlerStatus(
	path: string,
	again: { tries: number; everyMs: number } = { tries: 5, everyMs: 400 },
): Promise<HandlerStatusRead> {
	for (let tries = 1; ; tries += 1) {
		const read = await readOnce(path);
		if (typeof read !== "string") return read;
		if (tries >= again.tries)
			return { status: "error", code: handlerErrorCodes.statusInvalid, message: read, substatus: [], writtenMs: 0 };
		await sleep(again.everyMs);
	}
}

/** The fault's text when it is malformed. */
async function readOnce(path: string): Promise<HandlerStatusRead | string> {
	try {
		const writtenMs = await findWrittenMs(path);
		const text = await findSmallFile(path, { code: "extension-failed", limitBytes: maxBytes });
		if (text !== undefined) return parseHandlerStatus(text, path, writtenMs ?? Date.now());
		return { status: "transitioning", code: 0, message: "", substatus: [] };
	} catch (error) {
		return (error as Error).message;
	}
}

export function parseHandlerStatus(text: string, path: string, writtenMs: number): HandlerStatusRead | string {
	let content: unknown;
	try {
		content = JSON.parse(text.replace(/^\ufeff/, ""));
	} catch {
		return `${path} is no JSON`;
	}
	const parsed = checkShape(readStatusFileSchema, content);
	if (!parsed.success) {
		const issue = parsed.error.issues[0];
		return `${path}: ${issue?.path.map(String).join(".")}: ${issue?.message}`;
	}
	const { status, code, formattedMessage, substatus } = parsed.data.status;
	const isLarge = Buffer.byteLength(text) > wholeBytes;
	const cut = (long: string, chars: number) => (isLarge && long.length > chars ? `${long.slice(0, chars)}…` : long);
	return {
		status,
		code,
		message: cut(formattedMessage, cutMessageChars),
		substatus: substatus.slice(0, maxSubstatus).map((one) => ({
			name: cut(one.name, cutSubstatusChars),
			status: one.status,
			code: one.code,
			message: cut(one.formattedMessage, cutSubstatusChars),
		})),
		writtenMs,
	};
}

/** Contract: success and error end a job. A warning, which it does not name there, is a success with a remark. */
export function isTerminal({ status }: Pick<HandlerStatusRead, "status">): boolean {
	return status !== "transitioning";
}

/**
 * The host's word in the handler's place: it closes what the handler left open. A good end that the handler told itself
 * is kept beside it.
 */
export async function writePlaceholderStatus(
	path: string,
	given: { name: string; operation: string; code: number; message: string },
): Promise<void> {
	const { name, operation, code, message } = given;
	const formattedMessage = { lang: "en-US", message };
	const now = new Date().toISOString();
	const status = {
		name,
		operation,
		configurationAppliedTime: now,
		status: "error",
		code,
		formattedMessage,
		substatus: [],
	};
	await mkdir(dirname(path), { recursive: true, mode: 0o700 });
	const told = await readOnce(path);
	if (typeof told !== "string" && (told.status === "success" || told.status === "warning"))
		await rename(path, keptPath(path));
	await replaceFile(path, JSON.stringify([{ version: "1.0", timestampUTC: now, status, [hostMark]: operation }]));
}

/** In a status file of the host's: what failed. */
const hostMark = "stillpointHost";
const hostMarkSchema = z.array(z.looseObject({ [hostMark]: z.string().optional() }));

/**
 * Before `enable` is run again: the host's word goes, and what the handler had told of a work that it will not do again
 * comes back. A job that the host closed stays closed.
 */
export async function withdrawPlaceholderStatus(path: string): Promise<void> {
	const is = { code: "extension-failed", limitBytes: maxBytes, schema: hostMarkSchema } as const;
	const found = await findSmallJson(path, is).catch(() => [{ [hostMark]: "job" }]);
	const operation = found?.[0]?.[hostMark];
	if (found !== undefined && (operation === undefined || operation === "job")) return;
	await rm(path, { force: true });
	await rename(keptPath(path), path).catch((error: NodeJS.ErrnoException) => {
		if (error.code !== "ENOENT") throw error;
	});
}

function keptPath(path: string): string {
	return `${path}.kept`;
}

/** When a file was written, in ms since the epoch; undefined when there is none. */
export async function findWrittenMs(path: string): Promise<number | undefined> {
	return await stat(path).then(
		(found) => found.mtimeMs,
		() => undefined,
	);
}
