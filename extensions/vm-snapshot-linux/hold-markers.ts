import { randomUUID } from "node:crypto";
import type { HeldFolder } from "../../platform/linux/target-folders.ts";
import { type ProbeAnswer, removeMarkers, writeMarkers } from "../../platform/linux/write-probe.ts";

const removeLimitMs = 5_000;

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
	const written = answers.filter(({ result }) => result === "ok" || result === "stuck").map(({ folder }) => folder);
	let removing: Promise<void> | undefined;
	return {
		nonce,
		answers: new Map(
			folders.flatMap(({ target }) => {
				const answer = answers.find(({ folder }) => folder === target.openPath);
				return answer === undefined ? [] : [[target.superblock, answer] as const];
			}),
		),
		remove() {
			removing ??= removeMarkers({ folders: written, jobId, limitMs: removeLimitMs }).then(
				() => undefined,
				() => undefined,
			);
			return removing;
		},
	};
}
