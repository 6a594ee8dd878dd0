/** What a script is told of its job: one line of JSON on its stdin, which then ends; that of a session stays open. */
import { z } from "zod";
import { snapshotOutcomeSchema } from "./hold-protocol.ts";
import { levelSchema } from "./level.ts";
import { idSchema } from "./order.ts";

export const scriptPhaseSchema = z.enum(["pre", "post", "session", "dry-run"]);
export type ScriptPhase = z.infer<typeof scriptPhaseSchema>;

/**
 * Whether the asker took a snapshot; `unknown`: it let go as it should, and does not tell (a hypervisor that only freezes
 * and thaws); `interrupted`: the job was killed, and a later run undoes it.
 */
export const scriptOutcomeSchema = z.enum(["snapshot", "no-snapshot", "unknown", "interrupted"]);
export type ScriptOutcome = z.infer<typeof scriptOutcomeSchema>;

/** The same for all scripts of a job. */
export const scriptJobSchema = z.strictObject({
	jobId: idSchema,
	/** The level that was ordered. */
	level: levelSchema,
	/** Kernel names of the disks that the snapshot will hold. */
	disks: z.array(z.string()),
	/**
	 * What will be frozen, `superblock` being the major:minor of /proc/self/mountinfo. An application with data elsewhere
	 * is not in the snapshot.
	 */
	fileSystems: z.array(z.strictObject({ mountPoint: z.string(), superblock: z.string() })),
});
export type ScriptJob = z.infer<typeof scriptJobSchema>;

/** The snapshot, as far as it is known when `post` runs. */
export const scriptRecoveryPointSchema = z.strictObject({
	/** UTC, RFC 3339: first freeze call, last thaw answer. */
	frozenAt: z.iso.datetime().optional(),
	thawedAt: z.iso.datetime().optional(),
	disks: z.array(snapshotOutcomeSchema),
});
export type ScriptRecoveryPoint = z.infer<typeof scriptRecoveryPointSchema>;

export const scriptInputSchema = scriptJobSchema.extend({
	schemaVersion: z.literal(1),
	phase: scriptPhaseSchema,
	/** Of `post` only. */
	outcome: scriptOutcomeSchema.optional(),
	recoveryPoint: scriptRecoveryPointSchema.optional(),
});
export type ScriptInput = z.infer<typeof scriptInputSchema>;
