/**
 * One file per application in the scripts folder (`/etc/stillpoint/scripts.d/NAME.json`), and the lines that a
 * session script and the runner exchange.
 *
 * Pairs: `pre` runs before the freeze, `post` after the thaw, always when its `pre` was started.
 * Sessions: one process from before the freeze until after the thaw.
 *   runner                          session script
 *     | -- start, environment ------> |  takes its hold (locks, backup mode)
 *     | <- "ready" on stdout -------- |  holds from here
 *     |    (freeze, snapshot, thaw)
 *     | -- "release OUTCOME" stdin -> |  proves that it held all along, lets go; OUTCOME: snapshot | no-snapshot
 *     | <- "held" | "lost REASON" --- |  and exit 0
 * End of stdin without `release`: lets go at once.
 * Environment of every script: STILLPOINT_JOB_ID, STILLPOINT_PHASE (pre, post, session), STILLPOINT_LEVEL,
 * STILLPOINT_DISKS (comma separated), STILLPOINT_OUTCOME (post only: snapshot | no-snapshot | interrupted), and a PATH that begins
 * with the folder of the Node that runs Stillpoint.
 */
import { z } from "zod";

const commandLine = z
	.array(z.string().max(4096))
	.min(1)
	.max(64)
	.refine((words) => words[0]?.startsWith("/") === true, { message: "the program must be an absolute path" });

const step = z.strictObject({
	/** Program and arguments; no shell. */
	command: commandLine,
	/** The whole process tree is ended after this. For a session: until `ready`, and again from `release` to its end. */
	deadlineMs: z.int().min(100).max(1_800_000).default(30_000),
});

export const scriptDropInSchema = z
	.strictObject({
		version: z.literal(1),
		/** The application that the scripts make quiet; stands in the report. */
		application: z.string().min(1).max(64),
		/** Ascending for pre and session start; descending for release and post. */
		order: z.int().min(0).max(999).default(500),
		enabled: z.boolean().default(true),
		/** `fail`: the job fails. `continue`: it goes on at level file-system at best, if the order accepts that. */
		onFailure: z.enum(["fail", "continue"]).default("fail"),
		pre: step.optional(),
		post: step.optional(),
		session: step.optional(),
	})
	.refine((file) => (file.session !== undefined) !== (file.pre !== undefined || file.post !== undefined), {
		message: "either session, or pre and/or post",
	});
export type ScriptDropIn = z.infer<typeof scriptDropInSchema>;
