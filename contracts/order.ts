import { z } from "zod";
import { levelSchema } from "./level.ts";

/** Ids that may become file names: no slash, no leading dot. */
export const idSchema = z
	.string()
	.min(1)
	.max(64)
	.regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "letters, digits, dot, dash and underscore, and no leading dot");

const diskNames = z.array(z.string().min(1).max(128)).min(1).max(256);

/**
 * Which disks: by kernel name (`vda`, `loop3`) or `serial:TEXT`. `all` is every disk that is not a temp disk.
 * A file system is covered when all its storage lies on included disks.
 */
export const diskSelectionSchema = z.union([
	z.literal("all"),
	z.strictObject({ include: diskNames }),
	z.strictObject({ exclude: diskNames }),
]);
export type DiskSelection = z.infer<typeof diskSelectionSchema>;

/**
 * The longest that writers may be stopped, as predicted before the freeze. Above it the job waits for a quieter moment
 * until `waitMs` are over, and then fails with `stall-too-long`; nothing was frozen.
 */
export const stallSchema = z.strictObject({
	budgetMs: z.int().min(1).max(900_000),
	waitMs: z.int().min(0).max(3_600_000).default(0),
});

/** An order to hold the disks still. The asker takes the snapshot while they are. */
export const orderSchema = z
	.strictObject({
		jobId: idSchema,
		/** The level asked for. `crash` freezes nothing and runs no scripts. */
		level: levelSchema.exclude(["none"]),
		/** The weakest level that the asker still accepts; what stands in the way of it fails the job. */
		acceptLevel: levelSchema.exclude(["none"]),
		disks: diskSelectionSchema,
		/** The job must have begun this long after the order arrived. */
		startWithinMs: z.int().min(0).max(3_600_000).default(60_000),
		/** From before the first freeze until after the last thaw. Local config may lower it. */
		holdLimitMs: z.int().min(100).max(900_000).default(10_000),
		/** From the order to the moment of the freeze: plan, sync, scripts, the asker's own preparation. */
		prepareLimitMs: z.int().min(1_000).max(3_600_000).default(120_000),
		stall: stallSchema.optional(),
		/**
		 * `reported`: the asker takes the snapshot and tells how it went (the controller).
		 * `unknown`: the asker only holds and releases; `achieved` will be null and `held` tells the level.
		 */
		snapshot: z.enum(["reported", "unknown"]).default("reported"),
	})
	.refine((order) => !(order.level === "crash" && order.acceptLevel !== "crash"), {
		message: "acceptLevel must not be above level",
		path: ["acceptLevel"],
	})
	.refine((order) => !(order.level === "file-system" && order.acceptLevel === "application"), {
		message: "acceptLevel must not be above level",
		path: ["acceptLevel"],
	});
export type Order = z.infer<typeof orderSchema>;
export type OrderInput = z.input<typeof orderSchema>;
