/** What the journal tells without the agent: read only, and beside one that runs. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StillpointError } from "../../contracts/errors.ts";

const jobsShown = 50;
const reportsShown = 5;

export type JournalExtract = {
	readonly jobs: readonly Record<string, unknown>[];
	readonly phases: Readonly<Record<string, number>>;
	readonly unsentReports: number;
	/** Of the latest jobs that have one, newest first. */
	readonly reports: readonly { readonly jobId: string; readonly report: unknown }[];
};

/** @throws `not-found`, or what SQLite says */
export function readJournal(stateDir: string): JournalExtract {
	const path = join(stateDir, "journal.db");
	if (!existsSync(path)) throw new StillpointError("not-found", `there is no ${path}`);
	const database = new DatabaseSync(path, { readOnly: true, timeout: 2_000 });
	try {
		const all = (sql: string) => database.prepare(sql).all();
		const phases = all("SELECT phase, count(*) AS count FROM jobs GROUP BY phase ORDER BY phase");
		const latest = `FROM jobs WHERE report IS NOT NULL ORDER BY rowid DESC LIMIT ${reportsShown}`;
		return {
			jobs: all(`SELECT jobId, phase, asker, createdAt FROM jobs ORDER BY rowid DESC LIMIT ${jobsShown}`),
			phases: Object.fromEntries(phases.map(({ phase, count }) => [String(phase), Number(count)])),
			unsentReports: Number(all("SELECT count(*) AS count FROM outbox")[0]?.["count"] ?? 0),
			reports: all(`SELECT jobId, report ${latest}`).map(({ jobId, report }) => ({
				jobId: String(jobId),
				report: parseReport(String(report)),
			})),
		};
	} finally {
		database.close();
	}
}

/** One that is damaged is shown as it is: the others are told all the same. */
function parseReport(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return text;
	}
}
