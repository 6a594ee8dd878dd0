import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { findSmallJson } from "../../platform/read-small-json.ts";
import { instanceFile } from "./handler-files.ts";
import type { PrivateFolders } from "./handler-place.ts";
import { replaceFile } from "./replace-file.ts";

const noteSchema = z.strictObject({ sequenceNumber: z.int(), startedAt: z.iso.datetime() });

function notePath(folders: PrivateFolders, instance: string | undefined): string {
	return join(folders.folder, instanceFile(instance, "job.json"));
}

/** The job ended: one that begins later with the same number has a deadline of its own. */
export async function dropJobNote(folders: PrivateFolders, instance: string | undefined): Promise<void> {
	await rm(notePath(folders, instance), { force: true });
}

/**
 * When the job of a sequence number began, in ms of the wall clock: kept over restarts of the agent, so that they do
 * not stretch its deadline.
 */
export async function noteJobStart(
	folders: PrivateFolders,
	instance: string | undefined,
	sequenceNumber: number,
	now: Date,
): Promise<number> {
	const path = notePath(folders, instance);
	const is = { code: "state-unusable", limitBytes: 4_096, schema: noteSchema } as const;
	const found = await findSmallJson(path, is).catch(() => undefined);
	// A clock that was set back must not stretch it either.
	if (found?.sequenceNumber === sequenceNumber) return Math.min(Date.parse(found.startedAt), now.getTime());
	await replaceFile(path, JSON.stringify({ sequenceNumber, startedAt: now.toISOString() }));
	return now.getTime();
}
