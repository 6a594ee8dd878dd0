/**
 * What `stillpoint check` finds on this machine, without an agent and without touching anything.
 *
 * - `protected`: every covered disk reaches at least `wanted`, and nothing was found in the way.
 * - `degraded`: every disk reaches it, but something was found, or could not be learnt.
 * - `unprotected`: a disk does not reach it, or a job would fail, or something is frozen now.
 */
import { z } from "zod";
import { freezeResultSchema } from "./freezer-protocol.ts";
import { levelSchema } from "./level.ts";
import { protectionStates } from "./protection.ts";
import { becauseSchema, notCoveredSchema } from "./report.ts";

/** `unknown`: it could not be learnt. `fail`: a job would fail, or be worth less than wanted. */
export const findingStatuses = ["ok", "warn", "fail", "unknown"] as const;

export const findingSchema = z.object({
	/** A stable word, or several findings of one. */
	check: z.string(),
	status: z.enum(findingStatuses),
	what: z.string(),
	why: z.string().optional(),
	remedy: z.string().optional(),
});
export type Finding = z.infer<typeof findingSchema>;

const ms = z.number().nonnegative();

export const checkedDiskSchema = z.object({
	name: z.string(),
	serial: z.string().optional(),
	sizeBytes: z.number(),
	included: z.boolean(),
	/** What a snapshot taken now would be worth at best. */
	level: levelSchema,
	/** What stands in the way of a better one. */
	because: z.array(z.object({ code: becauseSchema, what: z.string(), remedy: z.string() })),
});
export type CheckedDisk = z.infer<typeof checkedDiskSchema>;

export const checkedFileSystemSchema = z.object({
	mountPoint: z.string(),
	device: z.string(),
	fsType: z.string(),
	superblock: z.string(),
	disks: z.array(z.string()),
	/** Freeze level: 0 is frozen first, those of one level together. */
	order: z.int(),
	state: z.enum(["frozen", "not-frozen", "unknown"]),
	/** Only with `--try-freeze`. */
	tried: z
		.object({
			result: freezeResultSchema,
			freezeMs: ms.optional(),
			heldMs: ms.optional(),
			thawMs: ms.optional(),
			error: z.string().optional(),
		})
		.optional(),
});
export type CheckedFileSystem = z.infer<typeof checkedFileSystemSchema>;

export const frozenNowSchema = z.object({
	mountPoint: z.string(),
	by: z.enum(["stillpoint", "other"]),
	jobId: z.string().optional(),
	/** When the job's ledger was last written. UTC. */
	since: z.iso.datetime().optional(),
});
export type FrozenNow = z.infer<typeof frozenNowSchema>;

/**
 * An estimate: a freeze of all that is covered, with all unwritten data of the machine to write at the slowest covered
 * disk's mean speed since boot. `freezeMs`: with nothing to write.
 */
export const predictedStallSchema = z.object({
	dirtyBytes: z.number(),
	disk: z.string().optional(),
	bytesPerSecond: z.number().optional(),
	freezeMs: ms.optional(),
	predictedMs: ms.optional(),
});
export type PredictedStall = z.infer<typeof predictedStallSchema>;

export const checkSchema = z.object({
	schemaVersion: z.literal(1),
	state: z.enum(protectionStates),
	wanted: levelSchema,
	version: z.string(),
	hostname: z.string(),
	checkedAt: z.iso.datetime(),
	disks: z.array(checkedDiskSchema),
	/** In the order of freezing. */
	fileSystems: z.array(checkedFileSystemSchema),
	notCovered: z.array(notCoveredSchema),
	frozen: z.array(frozenNowSchema),
	stall: predictedStallSchema.optional(),
	findings: z.array(findingSchema),
});
export type Check = z.infer<typeof checkSchema>;
