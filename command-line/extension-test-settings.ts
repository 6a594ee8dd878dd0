import { readFile } from "node:fs/promises";
import { z } from "zod";
import { checkShape } from "../contracts/check-shape.ts";
import { StillpointError } from "../contracts/errors.ts";

const testSettingsSchema = z.strictObject({
	publicSettings: z.unknown().optional(),
	protectedSettings: z.unknown().optional(),
	wrongPublicSettings: z.unknown().optional(),
	unchanged: z.array(z.string()).optional(),
	statusLimitMs: z.int().positive().optional(),
});

/** What `--settings` of `stillpoint extensions test` names. @throws `settings-invalid` naming file and field */
export async function readTestSettings(path: string): Promise<z.output<typeof testSettingsSchema>> {
	const invalid = (what: string) => new StillpointError("settings-invalid", `${path}: ${what}`);
	let content: unknown;
	try {
		content = JSON.parse(await readFile(path, "utf8"));
	} catch (error) {
		throw invalid(error instanceof SyntaxError ? "is no JSON" : (error as Error).message);
	}
	const parsed = checkShape(testSettingsSchema, content);
	const issue = parsed.error?.issues[0];
	if (issue !== undefined) throw invalid([issue.path.join("."), issue.message].filter(Boolean).join(": "));
	return parsed.data ?? {};
}
