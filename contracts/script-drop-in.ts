/**
 * One file per application in the scripts folder (`/etc/stillpoint/scripts.d/NAME.json`), and the lines that a
 * session script and the runner exchange.
 *
 * Pairs: `pre` runs before the freeze, `post` after the thaw, always when its `pre` was started.
 * Sessions: one process from before the freeze until after the thaw.
 *   runner                          session script
 *     | -- start, environment, ----> |  takes its hold (locks, backup mode)
 *     |    one line of JSON          |
 *     | <- "ready" on stdout -------- |  holds from here
 *     |    (freeze, snapshot, thaw)
 *     | -- "release OUTCOME" stdin -> |  proves that it held all along, lets go; OUTCOME: snapshot | no-snapshot | unknown
 *     | <- "held" | "lost REASON" --- |  and exit 0
 * End of stdin without `release`: lets go at once. A `post` beside a session runs after it, also when it was killed.
 * Every script finds one line of JSON on its stdin (`contracts/script-input.ts`), the same facts in its environment, and
 * a PATH that begins with the folder of the Node that runs Stillpoint.
 * Dry run: `pre`, or `session`, with `--dry-run` behind its arguments and the phase `dry-run`. It tries what it can
 * without changing anything and exits 0 when the real one would work, as far as it can tell.
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
/** Attempts after the first, each in a new process, all of them within `deadlineMs`. */
const stepWithRetries = step.extend({ retries: z.int().min(0).max(10).default(0) });

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
		/** User that its scripts run as, with that user's groups. Default: root. */
		runAs: z
			.string()
			.regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/, { message: "must be the name of a user" })
			.optional(),
		pre: stepWithRetries.optional(),
		post: stepWithRetries.optional(),
		session: step.optional(),
		/** Its `pre` or `session` knows `--dry-run`. Others are only looked at: trust, syntax of this file. */
		dryRun: z.boolean().default(false),
	})
	.refine((file) => file.session === undefined || file.pre === undefined, { message: "either session or pre" })
	.refine((file) => (file.session ?? file.pre ?? file.post) !== undefined, {
		message: "one of session, pre, post is needed",
	});
export type ScriptDropIn = z.infer<typeof scriptDropInSchema>;
