import { type BigIntStats, constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";
import type { PlannedFileSystem } from "./freeze-plan.ts";
import { formatDeviceNumber } from "./superblock-uuid.ts";

export type ReachedTargets = {
	readonly targets: readonly FreezeTarget[];
	/** Planned, but no path leads to a directory of it: its disks are worth `crash`. */
	readonly notReached: readonly { readonly planned: PlannedFileSystem; readonly message: string }[];
};

/** Finds, for each planned file system, the first path that really leads to a directory of it, with its identity. */
export async function reachTargets(
	planned: readonly PlannedFileSystem[],
	signal: AbortSignal,
): Promise<ReachedTargets> {
	const late = Promise.withResolvers<string>();
	const onAbort = (): void => late.resolve("its path did not answer in time");
	signal.addEventListener("abort", onAbort, { once: true });
	if (signal.aborted) onAbort();
	const found = await Promise.all(
		planned.map(async (one) => ({ one, answer: await Promise.race([reachOne(one), late.promise]) })),
	);
	signal.removeEventListener("abort", onAbort);
	return {
		targets: found.flatMap(({ answer }) => (typeof answer === "string" ? [] : [answer])),
		notReached: found.flatMap(({ one, answer }) =>
			typeof answer === "string" ? [{ planned: one, message: answer }] : [],
		),
	};
}

async function reachOne(planned: PlannedFileSystem): Promise<FreezeTarget | string> {
	let message = "every mount of it is hidden by another";
	for (const { mountPoint, openPath } of planned.reaches) {
		try {
			const stats = await stat(openPath, { bigint: true });
			await access(openPath, constants.R_OK);
			if (!isOf(stats, planned)) {
				message = `${openPath} does not lead to it`;
				continue;
			}
			return {
				superblock: planned.superblock,
				mountPoint,
				openPath,
				fsType: planned.fsType,
				level: planned.level,
				dev: String(stats.dev),
				ino: String(stats.ino),
			};
		} catch (error) {
			message = `${openPath}: ${(error as NodeJS.ErrnoException).code}`;
		}
	}
	return message;
}

/** btrfs gives each subvolume a number of its own; all others show the superblock's. */
function isOf(stats: BigIntStats, planned: PlannedFileSystem): boolean {
	return stats.isDirectory() && (planned.fsType === "btrfs" || formatDeviceNumber(stats.dev) === planned.superblock);
}
