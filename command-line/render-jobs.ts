import type { Level } from "../contracts/level.ts";
import type { JobSummary } from "../contracts/local-calls.ts";
import { type Cell, type Page, type Tone, table } from "./layout.ts";
import { humanMinute } from "./output.ts";

export const levelTones: Readonly<Record<Level, Tone>> = {
	application: "good",
	"file-system": "good",
	crash: "warn",
	none: "bad",
};

/** Jobs as a table, each with what it is worth, or why it is worth nothing. */
export function renderJobs(jobs: readonly JobSummary[], page: Page, indent = 0): string {
	const head = ["started", "worth, or error", "job"];
	const rows = jobs.map((job): Cell[] => [humanMinute(job.startedAt), worthCell(job), job.jobId]);
	return table([head, ...rows], { page, indent, whole: [0, 2], head: true });
}

function worthCell({ phase, achieved, held, errorCode }: JobSummary): Cell {
	if (errorCode !== undefined) return { text: errorCode, tone: "bad" };
	if (phase !== "done" && phase !== "failed") return { text: phase, tone: phase === "stuck" ? "bad" : "strong" };
	const level = achieved ?? held ?? "none";
	// The asker took the snapshot itself: the hold is all that is known.
	return { text: achieved === null ? `held ${level}` : level, tone: levelTones[level] };
}
