import { randomUUID } from "node:crypto";
import { lstat, opendir } from "node:fs/promises";
import { join } from "node:path";
import type { HeldFolder } from "../../platform/linux/target-folders.ts";
import {
	markerName,
	type ProbeAnswer,
	removeMarkerFiles,
	removeMarkers,
	writeMarkers,
} from "../../platform/linux/write-probe.ts";
import { within } from "../../platform/within.ts";

const removeLimitMs = 2_000;
const removeStuckLimitMs = 500;
const maxStale = 64;

export type HoldMarkers = {
	/** Superblock to what is known of the write. */
	readonly answers: ReadonlyMap<string, ProbeAnswer>;
	readonly nonce: string;
	/** Takes away what was written. Once; never rejects. Only after the thaw. */
	remove(): Promise<void>;
};

/**
 * Writes a marker file durably into each file system: the write probe, and what a copy is known by later. One that
 * can't be written (no space, a read-only mount of a writable file system) hinders nothing; one that hangs does.
 */
export async function placeMarkers(
	folders: readonly HeldFolder[],
	jobId: string,
	limitMs: number,
): Promise<HoldMarkers> {
	const nonce = randomUUID();
	const paths = folders.map(({ target }) => target.openPath);
	const answers = await writeMarkers({ folders: paths, jobId, limitMs, nonce });
	let removing: Promise<void> | undefined;

	async function removeAll(): Promise<void> {
		// What hung may still hang, and is not waited for long: its process removes the marker when it can.
		await Promise.allSettled([
			removeMarkers({ folders: foldersOf("ok"), jobId, limitMs: removeLimitMs }),
			removeMarkers({ folders: foldersOf("stuck"), jobId, limitMs: removeStuckLimitMs }),
			// A disk that hangs by now is no reason to keep the report back.
			...foldersOf("ok").map((folder) => within(removeStale(folder, jobId), removeLimitMs, "looking for old markers")),
		]);
	}

	function foldersOf(result: ProbeAnswer["result"]): string[] {
		return answers.filter((answer) => answer.result === result).map(({ folder }) => folder);
	}

	return {
		nonce,
		answers: new Map(
			folders.flatMap(({ target }) => {
				const answer = answers.find(({ folder }) => folder === target.openPath);
				return answer === undefined ? [] : [[target.superblock, answer] as const];
			}),
		),
		remove() {
			removing ??= removeAll();
			return removing;
		},
	};
}

/**
 * A job that was killed leaves its marker behind: the next one takes it away. One job runs at a time on a machine.
 * Everybody may lay files of that name where he may write: only ours count, and not too many of them.
 */
async function removeStale(folder: string, ownJobId: string): Promise<void> {
	const prefix = markerName("");
	const ours: string[] = [];
	for await (const entry of await opendir(folder)) {
		if (!entry.name.startsWith(prefix) || entry.name === markerName(ownJobId)) continue;
		const path = join(folder, entry.name);
		const stats = await lstat(path);
		if (stats.isFile() && stats.nlink === 1 && stats.uid === process.geteuid?.()) ours.push(path);
		if (ours.length === maxStale) break;
	}
	await removeMarkerFiles(ours, removeLimitMs);
}
