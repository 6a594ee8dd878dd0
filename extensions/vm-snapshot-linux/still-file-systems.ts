/**
 * File systems without a freeze that may be shown not to have changed (an EFI partition): written out before the
 * window, and the write counter of their device stood still over it.
 */
import { open } from "node:fs/promises";
import { readWriteCount } from "../../platform/linux/block-devices.ts";
import type { FreezeCalls } from "../../platform/linux/freeze-calls.ts";
import type { LeftOutFileSystem } from "../../platform/linux/freeze-plan.ts";
import { untilAborted } from "./abort-reasons.ts";

/** The write counter of each after its dirty data was written out, or why it has none. One that does not answer is absent. */
export type WriteCounts = ReadonlyMap<LeftOutFileSystem, number | string>;

export async function countWritesBefore(
	fileSystems: readonly LeftOutFileSystem[],
	calls: Pick<FreezeCalls, "sync">,
	signal: AbortSignal,
): Promise<WriteCounts> {
	const counts = new Map<LeftOutFileSystem, number | string>();
	const work = fileSystems.map(async (one) => {
		counts.set(one, await countWritesOf(one, calls).catch((error: Error) => error.message));
	});
	await untilAborted(Promise.all(work), signal);
	return counts;
}

async function countWritesOf(one: LeftOutFileSystem, calls: Pick<FreezeCalls, "sync">): Promise<number | string> {
	const path = one.reaches[0]?.openPath;
	const device = one.deviceNumbers[0];
	if (path === undefined || device === undefined) return "no path or no device";
	const folder = await open(path, "r");
	try {
		const error = await calls.sync(folder.fd);
		return error === undefined ? await readWriteCount(device) : `syncfs: ${error}`;
	} finally {
		await folder.close();
	}
}

/** Those that were written to in between, or of which that can't be said. */
export async function findChanged(
	fileSystems: readonly LeftOutFileSystem[],
	before: WriteCounts,
	calls: Pick<FreezeCalls, "sync">,
	signal: AbortSignal,
): Promise<LeftOutFileSystem[]> {
	const after = await countWritesBefore(fileSystems, calls, signal);
	return fileSystems.filter((one) => {
		const count = before.get(one);
		return typeof count !== "number" || count !== after.get(one);
	});
}
