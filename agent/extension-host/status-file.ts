import { readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { z } from "zod";
import { handlerStatusFileSchema } from "../../contracts/extension.ts";
import { type Report, reportSchema } from "../../contracts/report.ts";
import { findSmallJsonSync, parseJson } from "../../platform/read-small-json.ts";

const maxStatusBytes = 4 * 1024 * 1024;
const keptFiles = 10;

export function statusPath(extensionFolder: string, jobId: string): string {
	return join(extensionFolder, "status", `${jobId}.status`);
}

/** The whole report of a job, when the extension wrote one; undefined for whatever is no status file with one. */
export function findStatusReport(extensionFolder: string, jobId: string): Report | undefined {
	const path = statusPath(extensionFolder, jobId);
	try {
		const is = { code: "extension-failed", limitBytes: maxStatusBytes, schema: handlerStatusFileSchema } as const;
		const [status] = findSmallJsonSync(path, is) ?? [];
		const text = status?.status.substatus[0]?.formattedMessage.message ?? "";
		const report = reportSchema.loose().parse(parseJson(text, path, is.code)) as Report;
		return report.jobId === jobId ? report : undefined;
	} catch {
		return undefined;
	}
}

/** Closes a job whose extension left no status, as Azure's host does. Keeps the newest files of earlier jobs. */
export function writeStatusReport(extensionFolder: string, report: Report): void {
	const path = statusPath(extensionFolder, report.jobId);
	const message = { lang: "en-US", message: report.error?.message ?? "done" };
	const code = report.error === undefined ? 0 : 1;
	const word = report.error === undefined ? ("success" as const) : ("error" as const);
	const file: z.input<typeof handlerStatusFileSchema> = [
		{
			version: "1.0",
			timestampUTC: new Date().toISOString(),
			status: {
				name: report.extension.name,
				operation: "Snapshot",
				status: word,
				code,
				formattedMessage: message,
				substatus: [
					{
						name: "report",
						status: word,
						code,
						formattedMessage: { lang: "en-US", message: JSON.stringify(report) },
					},
				],
			},
		},
	];
	writeFileSync(`${path}.new`, JSON.stringify(file), { mode: 0o600 });
	renameSync(`${path}.new`, path);
}

export function trimStatusFiles(extensionFolder: string): void {
	const folder = join(extensionFolder, "status");
	const files = readdirSync(folder)
		.filter((name) => name.endsWith(".status"))
		.map((name) => ({ path: join(folder, name), timeMs: statSync(join(folder, name)).mtimeMs }))
		.sort((a, b) => b.timeMs - a.timeMs);
	for (const { path } of files.slice(keptFiles)) rmSync(path, { force: true });
}
