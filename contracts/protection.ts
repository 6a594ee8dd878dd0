/**
 * "Is this machine protected?" Judged by the agent from the jobs that it knows (`agent/protection.ts`).
 *
 * - `protected`: the newest good recovery point is no older than `protection.maxAgeMs`, and nothing stands against it.
 * - `degraded`: there is one that is young enough, but something is wrong that will cost the next one, or already did.
 * - `unprotected`: there is none, or only one that is too old.
 *
 * Good is a job without an error whose level (`achieved`, or `held` where the asker took the snapshot itself) is at
 * least `protection.level`. Jobs that somebody cancelled, and those that still run, say nothing.
 */
import { z } from "zod";
import { levelSchema } from "./level.ts";
import { idSchema } from "./order.ts";

export const protectionStates = ["protected", "degraded", "unprotected"] as const;

type Reason = { readonly summary: string; readonly remedy: string };

/** Words of `why`. Stable. */
export const protectionReasons = {
	"no-good-job": {
		summary: "No job on record made a recovery point that is worth enough.",
		remedy: "Order one: stillpoint snapshot, or a schedule at the controller; see the errors of the jobs before.",
	},
	"too-old": {
		summary: "The newest good recovery point is older than protection.maxAgeMs allows.",
		remedy: "See why no newer one was made: stillpoint jobs. Order one, or correct the schedule that should.",
	},
	"last-job-failed": {
		summary: "The newest job failed.",
		remedy: "See stillpoint report, and stillpoint explain with the code of its error.",
	},
	"last-job-weak": {
		summary: "The newest job is worth less than protection.level.",
		remedy: "See why in stillpoint report; the words of `because` can be explained.",
	},
	"may-be-frozen": {
		summary: "A job is stuck: a file system may still be frozen.",
		remedy: "Run: stillpoint thaw. See stillpoint explain stuck.",
	},
	"not-connected": {
		summary: "The agent is not connected to its controller, which can order nothing.",
		remedy: "See the link's error in stillpoint status.",
	},
	"no-snapshot-extension": {
		summary: "No enabled extension can take a snapshot.",
		remedy: "See stillpoint extensions, and extensions.installFrom in the configuration.",
	},
} as const satisfies Record<string, Reason>;
export type ProtectionReason = keyof typeof protectionReasons;

export const protectionSchema = z.object({
	state: z.enum(protectionStates),
	/** Since when it is so, as far as the jobs on record tell; absent when they do not. UTC. */
	since: z.iso.datetime().optional(),
	/** The gravest first; empty when protected. */
	why: z.array(
		z.object({
			code: z.enum(Object.keys(protectionReasons) as [ProtectionReason, ...ProtectionReason[]]),
			/** What exactly: the code of an error, a level, a time, a job. */
			detail: z.string().optional(),
		}),
	),
	/** The newest good recovery point. */
	lastGood: z.object({ jobId: idSchema, startedAt: z.iso.datetime(), level: levelSchema }).optional(),
	/** What was asked of it: `protection.level` and `protection.maxAgeMs` of the configuration. */
	wanted: z.object({ level: levelSchema, maxAgeMs: z.int().nullable() }),
});
export type Protection = z.infer<typeof protectionSchema>;
