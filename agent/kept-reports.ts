/** Reports that the journal could not take yet, in `<run>/reports`: what a killed agent's next life finds. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { orderSchema } from "../contracts/order.ts";
import { type Report, reportSchema } from "../contracts/report.ts";
import { findSmallJsonSync } from "../platform/read-small-json.ts";
import type { JournalJob } from "./journal.ts";

export type EndedJob = JournalJob & { readonly report: Report };

const keptSchema = z.object({
	version: z.literal(1),
	order: orderSchema,
	asker: z.enum(["link", "local"]),
	controller: z.string().optional(),
	createdAt: z.iso.datetime(),
	report: reportSchema.loose(),
});

/** A file that is no report of ours is told and left where it is. */
export function readKeptReports(folder: string, onBad: (path: string, error: unknown) => void): EndedJob[] {
	return listReports(folder).flatMap((path) => {
		try {
			const kept = findSmallJsonSync(path, {
				code: "state-unusable",
				limitBytes: 16 * 1024 * 1024,
				schema: keptSchema,
			});
			if (kept === undefined) return [];
			const { order, asker, createdAt } = kept;
			const controller = kept.controller === undefined ? {} : { controller: kept.controller };
			const report = kept.report as Report;
			return [{ jobId: order.jobId, order, asker, ...controller, phase: "done", createdAt, report }];
		} catch (error) {
			onBad(path, error);
			return [];
		}
	});
}

function listReports(folder: string): string[] {
	try {
		return readdirSync(folder)
			.filter((name) => name.endsWith(".json"))
			.map((name) => join(folder, name));
	} catch {
		return [];
	}
}
