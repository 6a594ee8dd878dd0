/** The level of each disk, by the verdict of a job that goes well from here: there is no second verdict. */
import type { CheckedDisk } from "../../contracts/check.ts";
import type { FreezeResult } from "../../contracts/freezer-protocol.ts";
import { becauseRemedies, becauseTexts } from "../../contracts/report.ts";
import { type JobEvidence, judge } from "../../extensions/vm-snapshot-linux/consistency-verdict.ts";
import type { JobPlan } from "../../extensions/vm-snapshot-linux/plan-job.ts";

type Known = {
	readonly plan: Pick<JobPlan, "disks" | "uncovered">;
	/** Superblocks that are known not to freeze, and how it ended. */
	readonly failed: ReadonlyMap<string, FreezeResult>;
	readonly applications: JobEvidence["applications"];
	/** False: the evidence stands for scripts that nobody tried, which is no failure of a script. */
	readonly wereTried: boolean;
	readonly freezeDisabled: boolean;
};

export function foreseeDisks({ plan, failed, applications, wereTried, freezeDisabled }: Known): CheckedDisk[] {
	const superblocks = [...new Set(plan.disks.flatMap((disk) => disk.superblocks))];
	const { disks } = judge({
		requested: "application",
		snapshot: "unknown",
		disks: plan.disks,
		uncovered: plan.uncovered,
		applications,
		freezeDisabled,
		lookedAgain: true,
		window: { fromMs: 1, untilMs: 2 },
		fileSystems: superblocks.map((superblock) => ({
			superblock,
			freeze: { result: failed.get(superblock) ?? "frozen", startedAtMs: 0, endedAtMs: 0 },
			thaw: { result: "thawed", startedAtMs: 3, endedAtMs: 3 },
		})),
	});
	return plan.disks
		.map(({ name, serial, sizeBytes, included }, index) => ({
			name,
			...(serial === undefined ? {} : { serial }),
			sizeBytes,
			included,
			level: disks[index]?.held ?? "none",
			because: (disks[index]?.because ?? [])
				.filter((code) => wereTried || code !== "script-failed")
				.map((code) => ({ code, what: becauseTexts[code], remedy: becauseRemedies[code] })),
		}))
		.sort((a, b) => Number(b.included) - Number(a.included) || byCodeUnit(a.name, b.name));
}

function byCodeUnit(a: string, b: string): number {
	return a < b ? -1 : a > b ? 1 : 0;
}
