/** The envelopes inside node-ipc's frames on the local channel: three wire events, each with its own schema. */
import { z } from "zod";
import { StillpointError } from "../contracts/errors.ts";
import { errorShapeSchema } from "../contracts/hold-protocol.ts";

export const wireEvents = ["call", "reply", "notify"] as const;

/** A larger frame ends the connection. */
export const maxWireMessageBytes = 4 * 1024 * 1024;
/** A peer that does not read is cut off when this much waits for it. */
export const maxWirePendingBytes = 16 * 1024 * 1024;
/** `sun_path` of a Unix socket address holds 108 bytes with its final zero. */
export const maxSocketPathBytes = 107;
/** The longest start-within time of an order, and some room. */
export const maxCallLimitMs = 3_700_000;

export const wireCallSchema = z.strictObject({
	protocol: z.int(),
	/** Chosen by the caller, unique on its connection. */
	id: z.int().nonnegative(),
	name: z.string().max(64),
	params: z.unknown(),
	limitMs: z.int().min(1).max(maxCallLimitMs),
});
export type WireCall = z.infer<typeof wireCallSchema>;

export const wireReplySchema = z.object({
	id: z.int(),
	result: z.unknown().optional(),
	error: errorShapeSchema.optional(),
});

export const wireNotifySchema = z.object({ name: z.string(), params: z.unknown() });

/** `message-invalid` (or `code`) that names the first fields that do not fit. */
export function schemaError(what: string, error: z.ZodError, code: "message-invalid" | "internal" = "message-invalid") {
	const issues = error.issues.slice(0, 5).map((issue) => `${issue.path.join(".") || "(all)"}: ${issue.message}`);
	return new StillpointError(code, `${what}: ${issues.join("; ")}`.slice(0, 2000), { details: { issues } });
}
