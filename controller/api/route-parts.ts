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

/** Of a query: text of digits. */
export function wholeNumber(least: number, most: number) {
	const text = z.string().regex(/^\d{1,16}$/, `a whole number from ${least} to ${most}`);
	// Told to the document as what it is, not as the text that it comes in.
	return text
		.transform(Number)
		.pipe(z.int().min(least).max(most))
		.meta({ type: "integer", minimum: least, maximum: most });
}
