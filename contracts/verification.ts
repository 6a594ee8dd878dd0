import { z } from "zod";
import { levelSchema } from "./level.ts";

/**
 * `pass`: shown to be so. `fail`: shown to be otherwise. `unknown`: could not be looked at (the reason is in `detail`).
 * A finding of `unknown` is never counted as a pass.
 */
export const findingStatusSchema = z.enum(["pass", "fail", "unknown"]);

export const findingSchema = z.object({
	/** Disk, and file system UUID or path in it, that was looked at. */
	disk: z.string(),
	fileSystem: z.string().optional(),
	check: z.enum([
		"mapping", // the image carries the file systems that the report says lie on the disk
		"still", // what a freeze leaves: ext4 no recovery flag, XFS only the dummy record, btrfs a whole transaction
		"torn", // nothing in the image is newer than the freeze
		"same-instant", // the marker of this job's hold, or an on-disk time inside the window
		"structure", // the file system's own checker finds nothing
		"files", // every file can be read to its end
		"database", // every database found opens and passes its own check
		"members", // all members of a multi-device file system belong to one transaction
	]),
	status: findingStatusSchema,
	detail: z.string(),
	/** The tool and arguments that give the same answer, where there is one. */
	evidence: z.string().optional(),
});
export type Finding = z.infer<typeof findingSchema>;

/** `verification.json`, beside the label. It never changes the label. */
export const verificationSchema = z
	.object({
		schemaVersion: z.literal(1),
		recoveryPointId: z.string(),
		verifiedAt: z.iso.datetime(),
		durationMs: z.number(),
		label: levelSchema,
		/** What the images look like, by what could be looked at: crash when anything is not what a freeze leaves. */
		looksLike: z.enum(["none", "crash", "file-system"]),
		/** `label` claims no more than the images show, and no check that the label rests on is `fail`. */
		agrees: z.boolean(),
		findings: z.array(findingSchema),
	})
	.meta({ id: "Verification" });
export type Verification = z.infer<typeof verificationSchema>;
