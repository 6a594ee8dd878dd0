/**
 * Lines of JSON between the extension (stdin) and the freezer process (stdout).
 *
 *   extension                      freezer
 *      | -- targets ----------------> |  opens every directory, pins its pages
 *      | <- ready ------------------- |
 *      | -- freeze -----------------> |  deadline runs from here; level by level, parallel within a level
 *      | <- fileSystem (each) ------- |
 *      | <- frozen | failed --------- |  failed: everything it froze is thawed again, or says what is not
 *      | -- thaw{superblocks} ------> |  these alone, as often as wanted: the snapshot of their disks is taken
 *      | <- fileSystem (each) ------- |
 *      | -- thaw (or EOF) ----------> |
 *      | <- thawed ------------------ |  FITHAW's own answers: the proof of having been frozen until now
 *
 * The freezer writes its ledger (a file on tmpfs) before each FIFREEZE and after each answer, see `ledgerSchema`.
 */
import { z } from "zod";

const superblockSchema = z.string().regex(/^\d+:\d+$/);

/** How to open a mounted file system again, and how to know that it is the same one. */
export const freezeTargetSchema = z.strictObject({
	/** "MAJOR:MINOR" of /proc/PID/mountinfo: one per superblock. */
	superblock: superblockSchema,
	/** Mount point as its own mount namespace sees it. */
	mountPoint: z.string(),
	/** A path that reaches it from here: the mount point, or /proc/PID/root/... for another mount namespace. */
	openPath: z.string(),
	fsType: z.string(),
	/** Levels freeze in ascending order and thaw in descending order; upper layers are 0. */
	level: z.int().nonnegative(),
	/** `st_dev` and `st_ino` of the directory when it was planned: what is opened must be the same. */
	dev: z.string(),
	ino: z.string(),
});
export type FreezeTarget = z.infer<typeof freezeTargetSchema>;

/** How FIFREEZE or FITHAW of one file system ended. */
export const freezeResults = [
	"pending", // not tried
	"freezing", // FIFREEZE in flight: may be frozen by us
	"frozen", // FIFREEZE answered 0
	"foreign", // EBUSY: somebody else holds a freeze
	"unsupported", // EOPNOTSUPP
	"failed", // any other errno
	"thawed", // FITHAW answered 0: it was frozen until now
	"not-frozen", // FITHAW answered EINVAL: somebody else had thawed it
	"thaw-failed", // FITHAW answered another errno
] as const;
export const freezeResultSchema = z.enum(freezeResults);
export type FreezeResult = (typeof freezeResults)[number];

export const freezerCommandSchema = z.discriminatedUnion("type", [
	z.strictObject({
		type: z.literal("targets"),
		jobId: z.string(),
		ledgerPath: z.string(),
		bootId: z.string(),
		targets: z.array(freezeTargetSchema).min(1).max(500),
	}),
	z.strictObject({
		type: z.literal("freeze"),
		/** The freezer thaws by itself this long after it reads the line, whatever happens. */
		holdLimitMs: z.int().positive(),
		/** A level that takes longer than this fails the freeze. */
		freezeLimitMs: z.int().positive(),
		/** Switches the kernel's `rcu_expedited` on for the instant of the freeze, and back. */
		expedited: z.boolean(),
	}),
	/**
	 * Without `superblocks`: all, and the hold is over. With: these alone, lower levels first, after `frozen`; before it
	 * the line is passed over, as is a superblock that is named twice, was thawed before or is none of the targets.
	 */
	z.strictObject({
		type: z.literal("thaw"),
		superblocks: z.array(superblockSchema).min(1).max(500).optional(),
	}),
]);
export type FreezerCommand = z.infer<typeof freezerCommandSchema>;

/** All `...AtMs` are CLOCK_MONOTONIC in ms (process.hrtime), comparable between processes of one boot. */
export const freezerEventSchema = z.discriminatedUnion("type", [
	z.strictObject({ type: z.literal("ready"), pinnedBytes: z.number() }),
	z.strictObject({
		type: z.literal("fileSystem"),
		superblock: z.string(),
		result: freezeResultSchema,
		errno: z.string().optional(),
		startedAtMs: z.number(),
		endedAtMs: z.number(),
	}),
	/** `expedited`: the freeze ran with `rcu_expedited`, ours or somebody else's. */
	z.strictObject({ type: z.literal("frozen"), atMs: z.number(), leftMs: z.number(), expedited: z.boolean() }),
	z.strictObject({
		type: z.literal("failed"),
		reason: z.enum(["freeze-failed", "freeze-late", "foreign-freeze", "cannot-open", "bad-message"]),
		superblock: z.string().optional(),
		message: z.string(),
	}),
	z.strictObject({
		type: z.literal("thawed"),
		/** What made it thaw. */
		cause: z.enum(["asked", "deadline", "eof", "signal", "failed"]),
		atMs: z.number(),
		fileSystems: z.array(
			z.strictObject({
				superblock: z.string(),
				result: freezeResultSchema,
				errno: z.string().optional(),
				startedAtMs: z.number(),
				endedAtMs: z.number(),
			}),
		),
	}),
]);
export type FreezerEvent = z.infer<typeof freezerEventSchema>;

/** What lies in `<run>/freezes/JOB.json` while a job may have frozen something. Written by rename, on tmpfs only. */
export const ledgerSchema = z.strictObject({
	schemaVersion: z.literal(1),
	jobId: z.string(),
	bootId: z.string(),
	/** The freezer, and its start time from /proc/PID/stat: together they name one process for ever. */
	freezer: z.strictObject({ pid: z.int().positive(), startTime: z.string() }),
	/** CLOCK_MONOTONIC, when the freezer thaws by itself. Absent before the freeze. */
	deadlineAtMs: z.number().optional(),
	fileSystems: z.array(freezeTargetSchema.extend({ state: freezeResultSchema, fd: z.int() })),
});
export type Ledger = z.infer<typeof ledgerSchema>;

export const maxLedgerBytes = 4 * 1024 * 1024;

/** States in which a file system may be frozen by us, so that a rescuer must thaw it. */
export function mayBeOurs(state: FreezeResult): boolean {
	return state === "freezing" || state === "frozen" || state === "thaw-failed";
}
