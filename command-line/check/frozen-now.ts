/** What is frozen at this moment, by a probe that freezes and thaws nothing. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { FrozenNow } from "../../contracts/check.ts";
import { type FreezeTarget, mayBeOurs } from "../../contracts/freezer-protocol.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { findLedger } from "../../platform/linux/find-ledger.ts";
import { readMountTable } from "../../platform/linux/mount-table.ts";
import { probeFrozen } from "../../platform/linux/write-probe.ts";

export type FreezeState = "frozen" | "not-frozen" | "unknown";
type Target = Pick<FreezeTarget, "superblock" | "openPath" | "mountPoint">;

/**
 * The probe is a remount that changes nothing. An XFS mounted with inode32 is left out: without its options a remount
 * would make it inode64.
 */
export async function probeTargets(targets: readonly Target[], limitMs: number): Promise<Map<string, FreezeState>> {
	const mounts = await readMountTable();
	const isTouchy = new Set(
		mounts.filter((one) => one.superOptions.includes("inode32")).map(({ superblock }) => superblock),
	);
	const probed = targets.filter(({ superblock }) => !isTouchy.has(superblock));
	const answers = await probeFrozen(
		probed.map(({ openPath }) => openPath),
		limitMs,
	);
	const states = new Map<string, FreezeState>(targets.map(({ superblock }) => [superblock, "unknown"]));
	probed.forEach(({ superblock }, index) => void states.set(superblock, answers[index] ?? "unknown"));
	return states;
}

export type OurFreeze = {
	readonly superblock: string;
	readonly mountPoint: string;
	readonly jobId: string;
	readonly since: string;
};

/** What the ledgers of this boot say may be frozen by us. What is no ledger says nothing. */
export async function readOurFreezes(runFolders: readonly string[]): Promise<OurFreeze[]> {
	const bootId = await readBootId();
	const found: OurFreeze[] = [];
	for (const folder of runFolders.map((one) => join(one, "freezes"))) {
		const names = await readdir(folder).catch(() => []);
		for (const name of names.filter((one) => one.endsWith(".json")).sort()) {
			const path = join(folder, name);
			const ledger = await findLedger(path).catch(() => undefined);
			if (ledger === undefined || ledger.bootId !== bootId) continue;
			const since = await stat(path).then(
				(stats) => stats.mtime.toISOString(),
				() => new Date(0).toISOString(),
			);
			const ours = ledger.fileSystems.filter(({ state }) => mayBeOurs(state));
			found.push(...ours.map(({ superblock, mountPoint }) => ({ superblock, mountPoint, jobId: ledger.jobId, since })));
		}
	}
	return found;
}

/** What the probe says, and whose it is by the ledgers. Ours that was not probed counts: the ledger is the proof. */
export function tellFrozen(
	targets: readonly Target[],
	states: ReadonlyMap<string, FreezeState>,
	ours: readonly OurFreeze[],
): FrozenNow[] {
	const bySuperblock = new Map(ours.map((one) => [one.superblock, one]));
	const probed = targets.filter(({ superblock }) => states.get(superblock) === "frozen");
	const known = new Set(targets.map(({ superblock }) => superblock));
	const unprobed = ours.filter(({ superblock }) => !known.has(superblock) || states.get(superblock) === "unknown");
	return [...probed, ...unprobed].map(({ superblock, mountPoint }) => {
		const one = bySuperblock.get(superblock);
		if (one === undefined) return { mountPoint, by: "other" };
		return { mountPoint, by: "stillpoint", jobId: one.jobId, since: one.since };
	});
}
