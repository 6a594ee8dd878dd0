/**
 * Disks whose snapshot is complete while others are still being taken: what lies on them is let go at once. Why the
 * images together still show one instant: docs/decisions/0012-a-disk-let-go-early.md
 */
import type { SnapshotOutcome } from "../../contracts/hold-protocol.ts";
import { takenAtMs } from "./consistency-verdict.ts";
import type { FrozenWindow } from "./frozen-window.ts";
import type { Job } from "./job.ts";
import type { JobPlan } from "./plan-job.ts";

/** Several for each of the disks that a job may have. */
const mostNoted = 1024;

export type TakenDisks = {
	/** The asker said it. What may go is asked to be thawed, and `onLetGo` has looked at it just before. */
	note(disk: SnapshotOutcome): void;
	/** The hold is over: `onLetGo` for those of these that were not let go before. */
	lookAtRest(superblocks: readonly string[]): void;
};

export function makeTakenDisks(
	{ record, clock, windowLog }: Pick<Job, "record" | "clock" | "windowLog">,
	frozenWindow: Pick<FrozenWindow, "thawSome"> | undefined,
	onLetGo: (superblocks: readonly string[]) => void,
): TakenDisks {
	const letGo = new Set<string>();

	function letGoWhatMay(plan: JobPlan): void {
		if (record.window === undefined || !record.answers.allFrozen(plan.targets)) return;
		const due = findThawable(plan, namesOfTaken(plan), letGo);
		if (due.length === 0) return;
		for (const superblock of due) letGo.add(superblock);
		onLetGo(due);
		frozenWindow?.thawSome(due);
	}

	/** Told of it while all was frozen, and never anything else. */
	function namesOfTaken({ disks }: JobPlan): Set<string> {
		const names = disks.map(({ name }) => name);
		return new Set(
			names.filter((name) => {
				const told = record.taken.filter((one) => one.disk.name === name);
				return told.every(({ disk }) => disk.ok) && Number.isFinite(takenAtMs(record, name));
			}),
		);
	}

	return {
		note(disk) {
			const { plan, request } = record;
			const isKnown = plan?.disks.some(({ name, included }) => included && name === disk.name) === true;
			if (!isKnown || request.order.snapshot !== "reported" || record.taken.length >= mostNoted) return;
			const atMs = clock.nowMs();
			record.taken.push({ disk, atMs });
			if (frozenWindow !== undefined) letGoWhatMay(plan);
			windowLog.write({ atMs, taken: { name: disk.name, ok: disk.ok } });
		},
		lookAtRest: (superblocks) => onLetGo(superblocks.filter((one) => !letGo.has(one))),
	};
}

/** Whether an asker that takes disk after disk should say so. */
export function takesDisksApart(plan: Pick<JobPlan, "disks"> | undefined): boolean {
	return (plan?.disks.filter(({ included }) => included).length ?? 0) > 1;
}

export type LetGoPlan = {
	readonly fileSystems: readonly { readonly superblock: string; readonly disks: readonly string[] }[];
	readonly disks: readonly {
		readonly name: string;
		readonly included: boolean;
		readonly superblocks: readonly string[];
	}[];
	readonly uncovered: readonly { readonly disks: readonly string[] }[];
	readonly below: ReadonlyMap<string, readonly string[]>;
};

/**
 * The file systems, still frozen, that no snapshot to come needs any more: all of their disks are taken, and those that
 * they store on go with them or went before. None at all while a disk is still to be taken on which something could be
 * written (not everything on it is frozen, or nothing): what is written after a thaw could show up in its image.
 */
export function findThawable(plan: LetGoPlan, taken: ReadonlySet<string>, letGo: ReadonlySet<string>): string[] {
	const toCome = plan.disks.filter((disk) => disk.included && !taken.has(disk.name));
	if (!toCome.every((disk) => isHeldWhole(disk, plan))) return [];
	const free = plan.fileSystems
		.filter(({ disks }) => disks.length > 0 && disks.every((disk) => taken.has(disk)))
		.map(({ superblock }) => superblock);
	const going = new Set(free.filter((one) => (plan.below.get(one) ?? []).every((lower) => free.includes(lower))));
	return [...going].filter((one) => !letGo.has(one));
}

function isHeldWhole({ name, superblocks }: LetGoPlan["disks"][number], { uncovered }: LetGoPlan): boolean {
	return superblocks.length > 0 && !uncovered.some(({ disks }) => disks.includes(name));
}
