import { lstat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { siblingProgram } from "../../../platform/linux/sibling-program.ts";
import type { Verdict } from "../found-file-system.ts";
import { firstLine, runTool } from "../image-tools.ts";
import { copyFile } from "./copy-tree.ts";
import { withScratchFolder } from "./scratch-folder.ts";

const answerSchema = z.union([
	z.strictObject({ error: z.string() }),
	z.strictObject({ integrity: z.array(z.string()), foreignKeys: z.number(), tables: z.number() }),
]);

/**
 * Copies a SQLite database with its journal files into the scratch folder, opens the copy (which replays its journal,
 * as a restored machine would) and asks it for its own check.
 */
export async function checkSqlite(path: Buffer, scratchDir: string, signal: AbortSignal): Promise<Verdict> {
	return withScratchFolder(scratchDir, async (folder) => {
		const copy = join(folder, "copy.db");
		for (const suffix of ["", "-wal", "-journal"]) {
			const from = Buffer.concat([path, Buffer.from(suffix)]);
			if (!(await lstat(from).catch(() => undefined))) continue;
			const copied = await copyFile(from, copy + suffix, signal);
			if ("status" in copied) return { ...copied, detail: `${suffix || "it"} ${copied.detail}` };
		}
		const program = siblingProgram(import.meta.url, {
			source: "../database-check-program.ts",
			bundled: "./database-check-program.mjs",
		});
		const result = await runTool(process.execPath, ["--no-warnings", program, copy], signal);
		return judgeAnswer(result.failure ?? result.output);
	});
}

/** @param output one line of JSON of database-check-program.ts. */
export function judgeAnswer(output: string): Verdict {
	const evidence = "sqlite3 COPY 'PRAGMA integrity_check; PRAGMA foreign_key_check'";
	let answer: z.infer<typeof answerSchema>;
	try {
		answer = answerSchema.parse(JSON.parse(output));
	} catch {
		return { status: "unknown", detail: `the check did not end: ${firstLine(output)}`, evidence };
	}
	if ("error" in answer) return { status: "fail", detail: answer.error, evidence };
	const faults = answer.integrity.filter((line) => line !== "ok");
	if (faults.length > 0) return { status: "fail", detail: firstLine(faults.join("; ")), evidence };
	if (answer.foreignKeys > 0) {
		// SQLite does not enforce foreign keys unless asked to, so a sound database may break them.
		const detail = `whole, but ${answer.foreignKeys} rows point at rows that do not exist`;
		return { status: "unknown", detail, evidence };
	}
	return { status: "pass", detail: `${answer.tables} tables, its own checks find nothing`, evidence };
}
