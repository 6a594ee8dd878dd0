/** Whether the machine is protected, by the jobs that are known: pure. What the words mean: `contracts/protection.ts`. */
import { atLeast, type Level } from "../contracts/level.ts";
import type { AgentStatus, JobSummary } from "../contracts/local-calls.ts";
import type { Protection, ProtectionReason } from "../contracts/protection.ts";

type Given = {
	/** Newest first. */
	readonly jobs: readonly JobSummary[];
	readonly wanted: { readonly level: Level; readonly maxAgeMs: number | null };
	readonly link: Pick<AgentStatus["link"], "enrolled" | "connected" | "error">;
	readonly canSnapshot: boolean;
	readonly nowMs: number;
};

export function judgeProtection({ jobs, wanted, link, canSnapshot, nowMs }: Given): Protection {
	const told = jobs.filter((job) => (job.phase === "done" || job.phase === "failed") && job.errorCode !== "cancelled");
	const isGood = (job: JobSummary) => job.errorCode === undefined && atLeast(worthOf(job), wanted.level);
	const newestGood = told.findIndex(isGood);
	const good = told[newestGood];
	const badSince = newestGood === -1 ? told : told.slice(0, newestGood);
	const maxAgeMs = wanted.maxAgeMs ?? Number.POSITIVE_INFINITY;
	const goodUntilMs = good === undefined ? undefined : Date.parse(good.startedAt) + maxAgeMs;
	const why: Protection["why"] = [];
	const say = (code: ProtectionReason, detail?: string) =>
		void why.push({ code, ...(detail === undefined ? {} : { detail }) });

	const stuck = jobs.find(({ phase }) => phase === "stuck");
	if (stuck !== undefined) say("may-be-frozen", `job ${stuck.jobId}`);
	if (goodUntilMs === undefined) say("no-good-job");
	else if (goodUntilMs < nowMs) say("too-old", good?.startedAt);
	const latest = badSince[0];
	if (latest?.errorCode !== undefined) say("last-job-failed", latest.errorCode);
	else if (latest !== undefined) say("last-job-weak", `level ${worthOf(latest)}`);
	if (!canSnapshot) say("no-snapshot-extension");
	if (link.enrolled && !link.connected) say("not-connected", link.error?.code);

	const common = {
		why,
		...(good === undefined ? {} : { lastGood: { jobId: good.jobId, startedAt: good.startedAt, level: worthOf(good) } }),
		wanted: { ...wanted },
	};
	if (goodUntilMs === undefined) return { state: "unprotected", ...common };
	if (goodUntilMs < nowMs) return { state: "unprotected", since: new Date(goodUntilMs).toISOString(), ...common };
	const firstBad = badSince.at(-1);
	// What is wrong with link or extensions has no time of its own.
	if (why.length > 0)
		return { state: "degraded", ...(firstBad === undefined ? {} : { since: firstBad.startedAt }), ...common };
	return { state: "protected", since: firstOfRow(told, isGood, maxAgeMs), ...common };
}

/** The oldest of the good jobs that follow one another without a bad one and without too long a gap. */
function firstOfRow(told: readonly JobSummary[], isGood: (job: JobSummary) => boolean, maxAgeMs: number): string {
	let since = told[0]?.startedAt ?? "";
	for (const job of told) {
		if (!isGood(job) || Date.parse(since) - Date.parse(job.startedAt) > maxAgeMs) break;
		since = job.startedAt;
	}
	return since;
}

function worthOf(job: JobSummary): Level {
	return job.achieved ?? job.held ?? "none";
}
