import { closest, distance } from "fastest-levenshtein";
import type { z } from "zod";
import { checkShape } from "../contracts/check-shape.ts";
import { type ErrorCode, StillpointError } from "../contracts/errors.ts";
import { findKnownKeys } from "./known-keys.ts";
import { findSmallFile, findSmallFileSync, type SmallFile } from "./read-small-file.ts";

/** More of them would say nothing more. */
const maxIssues = 5;

export type SmallJson<T> = SmallFile & { readonly schema: z.ZodType<T> };

/** A small file of JSON that matches its schema; undefined when there is none. @throws `is.code`, naming file and field */
export async function findSmallJson<T>(path: string, is: SmallJson<T>): Promise<T | undefined> {
	const text = await findSmallFile(path, is);
	return text === undefined ? undefined : checkJson(parseJson(text, path, is.code), path, is);
}

/** @throws `is.code`, also when there is none */
export async function readSmallJson<T>(path: string, is: SmallJson<T>): Promise<T> {
	const text = await findSmallFile(path, is);
	if (text === undefined) throw new StillpointError(is.code, `${path} does not exist`, { details: { path } });
	return checkJson(parseJson(text, path, is.code), path, is);
}

export function findSmallJsonSync<T>(path: string, is: SmallJson<T>): T | undefined {
	const text = findSmallFileSync(path, is);
	return text === undefined ? undefined : checkJson(parseJson(text, path, is.code), path, is);
}

/** @param path stands in the error; nothing of the content does, which may hold a secret. */
export function parseJson(text: string, path: string, code: ErrorCode): unknown {
	try {
		return JSON.parse(text);
	} catch (error) {
		const why = withoutContent((error as Error).message, text);
		throw new StillpointError(code, `${path} is no JSON: ${why}`, { details: { path } });
	}
}

/** Some of V8's messages quote what stands around the fault in place of telling where it is. */
function withoutContent(message: string, text: string): string {
	const [, dots, quoted] = /^Unexpected token .*?, (\.\.\.)?"(.*)"(?:\.\.\.)? is not valid JSON$/su.exec(message) ?? [];
	if (quoted === undefined) return message;
	const at = dots === undefined ? 0 : text.indexOf(quoted) + quotedBefore;
	return `unexpected character in line ${text.slice(0, at).split("\n").length}`;
}
/** Characters before the fault that V8 quotes. */
const quotedBefore = 10;

/** @throws `is.code` naming the first fields that are wrong; all stand in the details */
export function checkJson<T>(value: unknown, path: string, is: { code: ErrorCode; schema: z.ZodType<T> }): T {
	const parsed = checkShape(is.schema, value);
	if (parsed.success) return parsed.data;
	const issues = parsed.error.issues.map((issue) => {
		const field = issue.path.map(String).join(".");
		const said = issue.code === "unrecognized_keys" ? unknownKeys(issue, is.schema) : issue.message;
		return field === "" ? said : `${field}: ${said}`;
	});
	throw new StillpointError(is.code, `${path}: ${issues.slice(0, maxIssues).join("; ")}`, {
		details: { path, issues },
	});
}

/** Each with the known key that was probably meant, where there is one: half of its letters fit. */
function unknownKeys({ keys, path }: { keys: readonly string[]; path: readonly PropertyKey[] }, schema: z.ZodType) {
	const known = findKnownKeys(schema, path);
	return keys
		.map((key) => {
			const nearest = known.length === 0 ? undefined : closest(key, known);
			const isNear = nearest !== undefined && distance(key.toLowerCase(), nearest.toLowerCase()) * 2 <= nearest.length;
			return `unknown key ${JSON.stringify(key)}${isNear ? `, did you mean ${nearest}?` : ""}`;
		})
		.join("; ");
}
