import { z } from "zod";
import { idSchema } from "../../contracts/order.ts";

/** For a route without parameters or query. */
export const nothing = z.strictObject({});

const maxBodyBytes = 2 * 1024 * 1024;
/** Anybody may send it. */
const maxOpenBodyBytes = 64 * 1024;

/** Nothing, or `{}`. */
export const noBody = { schema: nothing, invalid: "message-invalid", maxBytes: maxOpenBodyBytes } as const;

export function jsonBody<S extends z.ZodType, C extends "message-invalid" | "order-invalid">(schema: S, invalid: C) {
	return { schema, invalid, maxBytes: maxBodyBytes };
}

export function openJsonBody<S extends z.ZodType>(schema: S) {
	return { schema, invalid: "message-invalid" as const, maxBytes: maxOpenBodyBytes };
}

export const agentParams = z.strictObject({ agentId: idSchema });
export const jobParams = z.strictObject({ jobId: idSchema });
export const recoveryPointParams = z.strictObject({ recoveryPointId: idSchema });
