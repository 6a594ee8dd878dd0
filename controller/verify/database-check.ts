import { constants } from "node:fs";
import { mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { siblingProgram } from "../../platform/linux/sibling-program.ts";
import type { Verdict } from "./found-file-system.ts";
import { firstLine, runTool } from "./image-tools.ts";

const answerSchema = z.union([
	z.strictObject({ error: z.string() }),
	z.strictObject({ integrity: z.array(z.string()), foreignKeys: z.number(), tables: z.number() }),
]);

/**
 * Copies a SQLite database with its journal files into the scratch folder, opens the copy (which replays its journal,
 * as a restored machine would) and asks it for its own check.
 */
export async function checkDatabase(path: Buffer, scratchDir: string, signal: AbortSignal): Promise<Verdict> {
	const folder = join(scratchDir, "database");
	await rm(folder, { recursive: true, force: true });
	await mkdir(folder, { mode: 0o700 });
	const copy = join(folder, "copy.db");
	try {
		for (const suffix of ["", "-wal", "-journal"]) {
			const failure = await copyOut(Buffer.concat([path, Buffer.from(suffix)]), copy + suffix, signal);
			if (failure !== undefined) return { ...failure, detail: `${suffix || "it"} can't be copied: ${failure.detail}` };
		}
		const program = siblingProgram(import.meta.url, {
			source: "./database-check-program.ts",
			bundled: "./database-check-program.mjs",
		});
		const result = await runTool(process.execPath, ["--no-warnings", program, copy], signal);
		return judgeAnswer(result.failure ?? result.output);
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
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

/**
 * Sparse, and only what is a regular file: beside a database a guest may have put a pipe, or a link to a file of this
 * host. By way of the descriptor, because names on Linux need not be UTF-8. What is not there is no failure.
 */
async function copyOut(from: Buffer, to: string, signal: AbortSignal): Promise<Verdict | undefined> {
	try {
		await using file = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
		if (!(await file.stat()).isFile()) return { status: "fail", detail: "no regular file" };
		const source = `/proc/${process.pid}/fd/${file.fd}`;
		const copied = await runTool("cp", ["--sparse=always", "--reflink=auto", "--", source, to], signal);
		if (copied.exitCode === 0) return undefined;
		const detail = copied.failure ?? firstLine(copied.output);
		return { status: /No space left|not installed/.test(detail) ? "unknown" : "fail", detail };
	} catch (error) {
		signal.throwIfAborted();
		const { code, message } = error as NodeJS.ErrnoException;
		return code === "ENOENT" ? undefined : { status: "fail", detail: code ?? message };
	}
}
