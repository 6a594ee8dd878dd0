import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { checkShape } from "../../contracts/check-shape.ts";
import { type HandlerEvent, handlerEventSchema } from "../../contracts/handler-files.ts";
import { findSmallFile } from "../../platform/read-small-file.ts";

/** Azure's limits. */
export const eventLimits = {
	fileBytes: 4 * 1024 * 1024,
	eventBytes: 6 * 1024,
	messageChars: 3_072,
	/** Of one extension, in `periodMs`. */
	events: 360,
	periodMs: 300_000,
};

export type CollectedEvents = {
	/** Oldest first. */
	readonly events: readonly HandlerEvent[];
	/** Files that were taken in or refused: the caller removes them. */
	readonly paths: readonly string[];
	/** What was refused, with the reason. */
	readonly refused: readonly string[];
	/** Files that somebody may be writing still. */
	readonly waiting: number;
};

/** A file that is malformed and younger than this may be half written. */
const youngMs = 2_000;

/**
 * Reads the event files of a folder, newest first, and takes at most `room` events of them; the rest is refused.
 * Nothing is removed here.
 */
export async function collectEvents(folder: string, room: number, nowMs: number): Promise<CollectedEvents> {
	const entries = (await readdir(folder).catch(() => [])).filter((name) => /^\d+\.json$/.test(name));
	const files = await Promise.all(
		entries.map(async (name) => {
			const path = join(folder, name);
			const writtenMs = await stat(path).then(
				(found) => found.mtimeMs,
				() => 0,
			);
			return { path, writtenMs };
		}),
	);
	files.sort((a, b) => b.writtenMs - a.writtenMs || (a.path < b.path ? 1 : -1));
	const events: HandlerEvent[] = [];
	const paths: string[] = [];
	const refused: string[] = [];
	let waiting = 0;
	let dropped = 0;
	for (const { path, writtenMs } of files) {
		const read = await readEvents(path);
		if (typeof read === "string" && nowMs - writtenMs < youngMs) {
			waiting += 1;
			continue;
		}
		paths.push(path);
		if (typeof read === "string") {
			refused.push(read);
			continue;
		}
		for (const one of read.toReversed())
			if (typeof one === "string") refused.push(one);
			else if (events.length < room) events.push(one);
			else dropped += 1;
	}
	if (dropped > 0) refused.push(`${folder}: ${dropped} events over the limit of ${eventLimits.events}`);
	return { events: events.toReversed(), paths, refused, waiting };
}

async function readEvents(path: string): Promise<(HandlerEvent | string)[] | string> {
	try {
		const text = await findSmallFile(path, {
			code: "extension-failed",
			limitBytes: eventLimits.fileBytes,
			refuseLinks: true,
		});
		const content: unknown = JSON.parse(text ?? "");
		return (Array.isArray(content) ? content : [content]).map((one) => parseEvent(one, path));
	} catch (error) {
		return error instanceof SyntaxError ? `${path} is no JSON` : (error as Error).message;
	}
}

/** The reason when it is refused. */
export function parseEvent(content: unknown, path: string): HandlerEvent | string {
	const parsed = checkShape(handlerEventSchema, content);
	if (!parsed.success) {
		const issue = parsed.error.issues[0];
		return `${path}: ${issue?.path.map(String).join(".")}: ${issue?.message}`;
	}
	const event = { ...parsed.data, Message: parsed.data.Message.slice(0, eventLimits.messageChars) };
	if (Buffer.byteLength(JSON.stringify(event)) > eventLimits.eventBytes)
		return `${path}: an event is larger than ${eventLimits.eventBytes} bytes`;
	return event;
}

export async function removeEvents(paths: readonly string[]): Promise<void> {
	for (const path of paths) await rm(path, { force: true, recursive: true });
}
