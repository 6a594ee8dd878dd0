import type { StillpointError } from "../../contracts/errors.ts";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import type { SnapshotOutcome } from "../../contracts/hold-protocol.ts";
import type { NotCovered } from "../../contracts/report.ts";
import type { ScriptRecoveryPoint } from "../../contracts/script-input.ts";
import type { Clock } from "./clock.ts";
import type { JobEvidence, TakenEvidence, UncoveredEvidence } from "./consistency-verdict.ts";
import { HoldAnswers } from "./hold-answers.ts";
import type { JobPlan } from "./plan-job.ts";
import type { BadScripts } from "./script-runner/application-scripts.ts";
import type { Applications } from "./script-runner/applications.ts";

/** All that is learnt during a job, each thing written once by the step that learns it. */
export class JobRecord {
	readonly request: SnapshotRequest;
	readonly startedAtMs: number;
	readonly startedAt: Date;
	readonly answers = new HoldAnswers();
	/** Superblock to the time that all its syncs before the freeze took together. */
	readonly syncMs = new Map<string, number>();
	/** Superblock to the time of its last sync: so long the freeze will take to write out what came since. */
	readonly lastSyncMs = new Map<string, number>();
	/** Superblock to the nonce of its marker. */
	readonly markers = new Map<string, string>();
	readonly badScripts: BadScripts[] = [];
	/** The file in which the machine's admin said that nothing shall be frozen. */
	freezeDisabledBy: string | undefined;
	/** Added to the plan's own. */
	readonly uncovered: UncoveredEvidence[] = [];
	readonly notCovered: NotCovered[] = [];
	plan: JobPlan | undefined;
	/** How long the asker expects its snapshot to take. */
	predictedMs: number | undefined;
	/** How long writers will be stopped, as predicted just before the first freeze call. */
	predictedStallMs: number | undefined;
	applications: Applications | undefined;
	/** Just before the first freeze call. */
	freezingAtMs: number | undefined;
	frozenAt: Date | undefined;
	thawedAt: Date | undefined;
	/** From `frozen` told to the asker's word; without end when that never came. */
	window: { fromMs: number; untilMs: number } | undefined;
	/** What the asker told of single disks while it took the others. */
	readonly taken: TakenEvidence[] = [];
	/** Superblocks whose devices were written to in the window, each looked at when its own thaw began. */
	readonly writtenInWindow: string[] = [];
	thawedTold = false;
	lookedAgain = false;
	outcomes: readonly SnapshotOutcome[] | undefined;
	described: NonNullable<JobEvidence["described"]> | undefined;
	/** Why nothing was frozen, though the job went on at level crash. */
	degraded: StillpointError | undefined;

	constructor(request: SnapshotRequest, clock: Clock) {
		this.request = request;
		this.startedAtMs = clock.nowMs();
		this.startedAt = clock.utcNow();
	}

	addSync(superblock: string, tookMs: number): void {
		this.syncMs.set(superblock, (this.syncMs.get(superblock) ?? 0) + tookMs);
		this.lastSyncMs.set(superblock, tookMs);
	}

	/** What is known of it by now. */
	recoveryPoint(): ScriptRecoveryPoint {
		return {
			...(this.frozenAt === undefined ? {} : { frozenAt: this.frozenAt.toISOString() }),
			...(this.thawedAt === undefined ? {} : { thawedAt: this.thawedAt.toISOString() }),
			disks: [...(this.outcomes ?? [])],
		};
	}

	evidence(): JobEvidence {
		const { request, plan } = this;
		const superblocks = plan?.targets.map(({ superblock }) => superblock) ?? [];
		return {
			requested: request.order.level,
			snapshot: request.order.snapshot,
			disks: plan?.disks ?? [],
			fileSystems: this.answers.evidence(superblocks).map((one) => ({
				...this.#degrade(one),
				writtenInWindow: this.writtenInWindow.includes(one.superblock),
			})),
			uncovered: [...(plan?.uncovered ?? []), ...this.uncovered],
			lookedAgain: this.lookedAgain,
			applications: [
				...(this.applications?.evidence() ?? []),
				...this.badScripts.map(({ name }) => ({ name, proved: false, holdLost: false, bad: true })),
			],
			freezeDisabled: this.freezeDisabledBy !== undefined,
			...(this.window === undefined ? {} : { window: this.window }),
			taken: this.taken,
			...(this.outcomes === undefined ? {} : { outcomes: this.outcomes }),
			...(this.described === undefined ? {} : { described: this.described }),
		};
	}

	/** What was not even tried is no lost evidence. */
	#degrade(one: JobEvidence["fileSystems"][number]): JobEvidence["fileSystems"][number] {
		if (this.degraded === undefined || one.freeze !== undefined) return one;
		const foreign = this.degraded.code === "foreign-freeze" && this.degraded.details["superblock"] === one.superblock;
		return { ...one, freeze: { result: foreign ? "foreign" : "pending", startedAtMs: 0, endedAtMs: 0 } };
	}
}
