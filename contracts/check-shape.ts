import { z } from "zod";

/**
 * `schema.safeParse`, and it never throws. Zod 4.6 itself does for `{"length": {"toString": 1}}` where a text or a list
 * of a limited length should stand: it compares that length. Whoever sends such a thing must not end a process.
 */
export function checkShape<S extends z.ZodType>(schema: S, value: unknown): z.ZodSafeParseResult<z.output<S>> {
	try {
		return schema.safeParse(value);
	} catch {
		const message = "Invalid input: something in it has a length that is no number";
		const error = new z.ZodError([{ code: "custom", path: [], message, input: value }]);
		return { success: false, error: error as z.ZodError<z.output<S>> };
	}
}
