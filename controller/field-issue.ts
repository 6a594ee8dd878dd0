import type { z } from "zod";
import { checkShape } from "../contracts/check-shape.ts";
import { type ErrorCode, StillpointError } from "../contracts/errors.ts";

/** The first fault that a schema found: which field, and what about it. */
export function describeIssue(error: z.ZodError): { field: string; message: string } {
	const issue = error.issues[0];
	if (issue === undefined) return { field: "(whole)", message: "invalid" };
	const path = issue.path.map(String);
	if (issue.code === "unrecognized_keys")
		return { field: [...path, ...issue.keys.slice(0, 1)].join(".").slice(0, 128), message: "unknown field" };
	return { field: path.join(".").slice(0, 128) || "(whole)", message: issue.message.slice(0, 512) };
}

/** What the schema makes of it, or an error with the code that names the field, also in `details.field`. */
export function parseFields<S extends z.ZodType>(schema: S, value: unknown, code: ErrorCode): z.output<S> {
	const parsed = checkShape(schema, value);
	if (parsed.success) return parsed.data;
	const { field, message } = describeIssue(parsed.error);
	throw new StillpointError(code, `field "${field}": ${message}`, { details: { field } });
}
