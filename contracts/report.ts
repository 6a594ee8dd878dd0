/** The job report: what a snapshot is worth, with the evidence. Unknown fields may appear; known ones keep their meaning. */
import { z } from "zod";
import { errorCodes } from "./errors.ts";
import { freezeResultSchema } from "./freezer-protocol.ts";
import { levelSchema } from "./level.ts";

/**
 * Why a disk or a job is worth less than asked, or a note that goes with it. Stable words.
 * The text in `becauseTexts` is for people.
 */
export const becauseTexts = {
	"ordered-crash": "The order asked for level crash: nothing was frozen.",
	"no-applications": "No application is configured: nothing proves more than level file-system.",
	"script-failed": "A script of an application failed, so it is not proved to have been quiet.",
	"script-hold-lost": "A session script could not prove that it held all along.",
	"freeze-disabled": "The machine's Azure script configuration says fsFreezeEnabled=false: nothing was frozen.",
	"freeze-failed": "A file system with storage on the disk could not be frozen.",
	"foreign-freeze": "A file system was frozen by somebody else, so its state is not proved by us.",
	"thawed-by-other": "A file system was thawed by somebody else before the snapshot ended.",
	"thawed-early": "The hold ended before the snapshot did.",
	"excluded-by-config": "A writable file system on the disk is excluded by the local configuration.",
	"unsupported-file-system": "A writable file system on the disk cannot be frozen.",
	"not-reached": "A writable file system on the disk is mounted where the agent cannot reach it.",
	"appeared-after-plan": "A writable file system appeared on the disk after the plan was made.",
	"spans-left-out-disk": "A file system on the disk also has storage on a disk that is not part of the job.",
	"mapping-unproved": "The image was not shown to carry the disk's file system UUIDs or serial.",
	"mapping-wrong": "The image carries other file systems than the disk.",
	"snapshot-failed": "The snapshot of the disk failed.",
	"snapshot-not-taken": "No snapshot of the disk was taken.",
	"snapshot-outside-window": "The snapshot began before everything was frozen, or ended after its disk was let go.",
	"evidence-lost": "The evidence was lost: the agent or its extension ended during the job.",
} as const;
export type Because = keyof typeof becauseTexts;

/** What to do about each, for `stillpoint explain` and the docs. */
export const becauseRemedies: Readonly<Record<Because, string>> = {
	"ordered-crash": "Order level file-system or application.",
	"no-applications": "Name the applications in drop-in files of scripts.d (docs/scripts.md), or ask for file-system.",
	"script-failed": "See the script's last output in the report, and run it by hand.",
	"script-hold-lost": "See the script's last output in the report: its session ended, or the database answered late.",
	"freeze-disabled": "Set fsFreezeEnabled=true in VMSnapshotScriptPluginConfig.json.",
	"freeze-failed":
		"See the file system's error in the report (or in check --details): heavy writers, a slow disk, a running balance.",
	"foreign-freeze": "Find the other program that freezes (fsfreeze, another backup agent), and let it thaw.",
	"thawed-by-other": "Find the other program that thaws; two backup agents must not work on one machine at a time.",
	"thawed-early": "Raise the hold limit (--limit-ms, holdLimitCapMs), or make the snapshot faster.",
	"excluded-by-config": "Take it out of fileSystems.exclude, or leave its disk out of the order.",
	"unsupported-file-system": "Mount it read-only or unmount it for the snapshot, or put it on a disk that is left out.",
	"not-reached": "Mount it where the agent sees it too, or end the container that holds it.",
	"appeared-after-plan": "Order again; mount nothing while a snapshot is taken.",
	"spans-left-out-disk": "Order all disks that the file system lies on.",
	"mapping-unproved": "See the provider's message; the disk's file systems need UUIDs, or the disk a serial.",
	"mapping-wrong": "Correct the map of disks: stillpoint controller agents map. The snapshot is of another disk.",
	"snapshot-failed": "See the error of the job, and the provider's message.",
	"snapshot-not-taken": "See the error of the job.",
	"snapshot-outside-window": "The provider must take the snapshot after `frozen` and before it says `taken` or `done`.",
	"evidence-lost": "See the agent's log for why it ended, then order again.",
};
export const becauseSchema = z.enum(Object.keys(becauseTexts) as [Because, ...Because[]]);

const ms = z.number().nonnegative();

export const reportErrorSchema = z.object({
	code: z.enum(errorCodes),
	message: z.string(),
	retryable: z.boolean(),
});

export const fileSystemReportSchema = z.object({
	mountPoint: z.string(),
	device: z.string(),
	superblock: z.string(),
	fsType: z.string(),
	uuid: z.string().optional(),
	/** Disks of the job that it has storage on. */
	disks: z.array(z.string()),
	/** Freeze level: 0 is frozen first. */
	level: z.int(),
	result: freezeResultSchema,
	/** All syncs before the freeze together; writers were not blocked meanwhile. */
	syncMs: ms.optional(),
	freezeMs: ms.optional(),
	heldMs: ms.optional(),
	thawMs: ms.optional(),
	/** FITHAW answered that it was frozen until then, and that was after the snapshots of all of its disks. */
	frozenUntilSnapshotEnded: z.boolean(),
	/** The nonce of the marker file that lay on it during the hold, when one could be written. */
	marker: z.string().optional(),
	error: z.string().optional(),
});
export type FileSystemReport = z.infer<typeof fileSystemReportSchema>;

/** What kind of configuration names a script. */
export const scriptSourceSchema = z.enum(["drop-in", "azure-script", "azure-workload", "qemu-hook", "vmware-hook"]);
export type ScriptSource = z.infer<typeof scriptSourceSchema>;

export const scriptReportSchema = z.object({
	name: z.string(),
	/** Absent where it is not known any more: a job that was killed is undone. */
	source: scriptSourceSchema.optional(),
	phase: z.enum(["pre", "post", "session"]),
	exitCode: z.int().optional(),
	signal: z.string().optional(),
	timedOut: z.boolean().default(false),
	/** Of a script that may be tried again: how often it was started. */
	attempts: z.int().positive().optional(),
	/**
	 * Session scripts: whether it proved that it held from before the freeze until after the thaw. Absent: it was never
	 * ready, so that there was no hold.
	 */
	held: z.boolean().optional(),
	durationMs: ms,
	outputTail: z.string(),
	/** `details`: what is known of the fault besides, by its name. */
	error: reportErrorSchema.extend({ details: z.record(z.string(), z.unknown()).optional() }).optional(),
});
export type ScriptReport = z.infer<typeof scriptReportSchema>;

export const diskReportSchema = z.object({
	name: z.string(),
	serial: z.string().optional(),
	sizeBytes: z.number().optional(),
	included: z.boolean(),
	/** null: the asker did not tell whether a snapshot was taken. */
	achieved: levelSchema.nullable(),
	held: levelSchema,
	because: z.array(becauseSchema),
	/** UUIDs of the file systems that must be found in the disk's image: the mapping proof. */
	fileSystemUuids: z.array(z.string()),
	snapshot: z.object({ id: z.string(), provider: z.string() }).optional(),
});
export type DiskReport = z.infer<typeof diskReportSchema>;

export const notCoveredSchema = z.object({
	/** A mount point, device or disk. */
	what: z.string(),
	/** A stable word: see `docs/report.md`. */
	why: z.enum([
		"disk-not-included",
		"temp-disk",
		"excluded-by-config",
		"unsupported-file-system",
		"network",
		"read-only",
		"no-storage",
		"not-reached",
		"swap",
		"spans-left-out-disk",
		"foreign-freeze",
		"appeared-after-plan",
	]),
	detail: z.string().optional(),
});
export type NotCovered = z.infer<typeof notCoveredSchema>;

export const reportSchema = z
	.object({
		schemaVersion: z.literal(1),
		jobId: z.string(),
		requested: levelSchema,
		accepted: levelSchema,
		/** What the snapshot is worth; null: the asker did not tell whether one was taken. */
		achieved: levelSchema.nullable(),
		/** What the hold alone was worth. */
		held: levelSchema,
		because: z.array(becauseSchema),
		/** UTC, RFC 3339. */
		startedAt: z.iso.datetime(),
		/** UTC by this machine's clock, of the first freeze call and the last thaw answer: to compare with on-disk times. */
		frozenAt: z.iso.datetime().optional(),
		thawedAt: z.iso.datetime().optional(),
		durationMs: ms,
		extension: z.object({ name: z.string(), version: z.string() }),
		window: z
			.object({
				/** What the asker expected its snapshot to take; to compare with `heldMs`. */
				predictedMs: ms.optional(),
				/** First freeze call to last freeze answer. */
				freezeMs: ms,
				/** Last freeze answer to first thaw call: when disks are let go one by one, that of the first of them. */
				heldMs: ms,
				/** First thaw call to last thaw answer: when disks are let go one by one, the others' snapshots lie in it. */
				thawMs: ms,
				/** First file system frozen to last file system frozen. */
				skewMs: ms,
				/**
				 * What `stallMs` was predicted to be just before the first freeze call; `predictedMs` is part of it. An asker
				 * that did not predict its snapshot leaves that part out.
				 */
				predictedStallMs: ms.optional(),
				/**
				 * The longest that the writers of any one file system were stopped: its freeze call to its thaw answer. Where the
				 * answer of the freeze was lost, from the first freeze call; where the thaw was refused, until then at least.
				 */
				stallMs: ms.optional(),
			})
			.optional(),
		fileSystems: z.array(fileSystemReportSchema),
		scripts: z.array(scriptReportSchema),
		/** VSS writers; empty on Linux. */
		writers: z.array(z.unknown()),
		disks: z.array(diskReportSchema),
		notCovered: z.array(notCoveredSchema),
		error: reportErrorSchema.optional(),
	})
	.meta({ id: "Report" });
export type Report = z.infer<typeof reportSchema>;
