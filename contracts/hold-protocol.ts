/**
 * The hold protocol between whoever asks for a snapshot (controller, command line, later a hypervisor) and the agent,
 * and, one floor down, between the agent and the extension that does the work. The same messages on every link.
 *
 *   asker                              agent
 *     | -- order --------------------> |  plan, trust checks, write probe, sync
 *     | <- accepted | refused -------- |
 *     | <- prepared{disks} ----------- |
 *     |    (the asker prepares its provider: predicts, opens, builds the request)
 *     | -- freeze -------------------> |  pre-scripts, last sync, FIFREEZE
 *     | <- frozen{leftMs, worth} ----- |
 *     |    (the asker takes every disk)
 *     | -- taken{disk} --------------> |  as often as it has disks, or never: what lies on it alone is thawed at once
 *     | -- done{disks} | release ----> |  thaw at once
 *     | <- thawed -------------------- |
 *     | -- described{disks} ---------> |  what the images carry: the mapping proof; not awaited after `release`
 *     | <- report -------------------- |  through the outbox: once in effect
 *
 * `cancel` may come at any time. A link that breaks before `done` is a cancel (`asker-lost`).
 * A group of machines is the same with a barrier at `prepared` and at `frozen`.
 */
import { z } from "zod";
import { errorCodes } from "./errors.ts";
import { levelSchema } from "./level.ts";
import { idSchema, orderSchema } from "./order.ts";
import { imageIdentitySchema } from "./recovery-point.ts";
import { reportSchema } from "./report.ts";

export const errorShapeSchema = z
	.object({
		code: z.enum(errorCodes),
		message: z.string().max(4096),
		remedy: z.string().optional(),
		retryable: z.boolean().optional(),
		details: z.record(z.string(), z.unknown()).optional(),
	})
	.meta({ id: "Error" });

/** The drawn path of a job: what may follow what. `undoing` runs only the undo stack. */
export const jobPhases = {
	queued: ["planning", "failed"],
	planning: ["preparing", "undoing"],
	preparing: ["prepared", "undoing"],
	prepared: ["scripts", "undoing"],
	scripts: ["freezing", "undoing"],
	freezing: ["frozen", "undoing"],
	frozen: ["thawing", "undoing"],
	thawing: ["post", "stuck", "undoing"],
	post: ["judging", "undoing"],
	judging: ["done", "failed"],
	undoing: ["judging", "stuck"],
	/** Something may still be frozen: the only end that may need a person. Leaves when the kernel lets go. */
	stuck: ["undoing"],
	done: [],
	failed: [],
} as const satisfies Record<string, readonly string[]>;
export type JobPhase = keyof typeof jobPhases;
export const jobPhaseSchema = z.enum(Object.keys(jobPhases) as [JobPhase, ...JobPhase[]]);

const jobId = idSchema;

/** A disk of the job as the asker must know it to take its snapshot. */
export const plannedDiskSchema = z.object({
	name: z.string(),
	serial: z.string().optional(),
	sizeBytes: z.number(),
	fileSystemUuids: z.array(z.string()),
});
export type PlannedDisk = z.infer<typeof plannedDiskSchema>;

export const snapshotOutcomeSchema = z.strictObject({
	name: z.string(),
	ok: z.boolean(),
	snapshotId: z.string().max(512).optional(),
	provider: z.string().max(64).optional(),
	error: z.string().max(4096).optional(),
});
export type SnapshotOutcome = z.infer<typeof snapshotOutcomeSchema>;

/** What an asker may tell a job that was accepted. */
export const holdCommandSchema = z.discriminatedUnion("type", [
	z.strictObject({
		type: z.literal("freeze"),
		jobId,
		/** How long the asker expects the snapshot itself to take; for the report. */
		predictedMs: z.number().nonnegative().max(3_600_000).optional(),
	}),
	/**
	 * The snapshot of one disk is complete and final, the others' are not: its file systems need not wait for them. Only
	 * after `prepared` with `perDisk`. `done` names the disk again; where the two differ, the weaker word counts.
	 */
	z.strictObject({ type: z.literal("taken"), jobId, disk: snapshotOutcomeSchema }),
	z.strictObject({ type: z.literal("done"), jobId, disks: z.array(snapshotOutcomeSchema).max(256) }),
	z.strictObject({
		type: z.literal("described"),
		jobId,
		disks: z.array(z.strictObject({ name: z.string(), identity: imageIdentitySchema })).max(256),
	}),
	/** Thaw; no snapshot was taken, or the asker does not tell. `error`: why not. */
	z.strictObject({ type: z.literal("release"), jobId, error: errorShapeSchema.optional() }),
	z.strictObject({ type: z.literal("cancel"), jobId, code: z.enum(["cancelled", "stopping", "asker-lost"]) }),
]);
export type HoldCommand = z.infer<typeof holdCommandSchema>;

/** What a job tells its asker while it runs. */
export const holdEventSchema = z.discriminatedUnion("type", [
	z.object({ type: z.literal("phase"), jobId, phase: jobPhaseSchema }),
	z.object({
		type: z.literal("prepared"),
		jobId,
		disks: z.array(plannedDiskSchema),
		/** The hold limit after the local cap. */
		holdLimitMs: z.number(),
		/**
		 * `taken` is understood and of use: file systems are thawed as soon as their disks are taken. Absent or false: the
		 * asker must not say it, an older agent would take it for a fault.
		 */
		perDisk: z.boolean().optional(),
	}),
	z.object({
		type: z.literal("frozen"),
		jobId,
		/** Until the agent thaws by itself. */
		leftMs: z.number(),
		/** What a snapshot taken now can be worth at best. */
		worth: levelSchema,
	}),
	z.object({ type: z.literal("thawed"), jobId }),
	z.object({ type: z.literal("stuck"), jobId, fileSystems: z.array(z.string()), error: errorShapeSchema }),
]);
export type HoldEvent = z.infer<typeof holdEventSchema>;

export const orderMessageSchema = z.strictObject({ type: z.literal("order"), order: orderSchema });

/** The agent's answers to an order. A repeated job id is answered `accepted` with what is recorded. */
export const orderAnswerSchema = z.discriminatedUnion("type", [
	z.object({ type: z.literal("accepted"), jobId, repeated: z.boolean(), report: reportSchema.optional() }),
	z.object({ type: z.literal("refused"), jobId, error: errorShapeSchema }),
]);
export type OrderAnswer = z.infer<typeof orderAnswerSchema>;
