import { z } from "zod";

/** The keys that a strict object may have where `path` leads to; none where the schema does not tell. */
export function findKnownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
	let at: z.ZodType | undefined = unwrap(schema);
	for (const name of path) {
		if (at instanceof z.ZodObject) at = at.shape[String(name)] as z.ZodType | undefined;
		else if (at instanceof z.ZodArray) at = at.element as z.ZodType;
		else return [];
		if (at === undefined) return [];
		at = unwrap(at);
	}
	return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

function unwrap(schema: z.ZodType): z.ZodType {
	if (
		schema instanceof z.ZodDefault ||
		schema instanceof z.ZodPrefault ||
		schema instanceof z.ZodOptional ||
		schema instanceof z.ZodNullable
	)
		return unwrap(schema.def.innerType as z.ZodType);
	return schema;
}
