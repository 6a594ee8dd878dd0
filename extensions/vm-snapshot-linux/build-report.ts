import type { StillpointError } from "../../contracts/errors.ts";
import type { FreezeResult } from "../../contracts/freezer-protocol.ts";
import type { DiskReport, FileSystemReport, Report, ScriptReport } from "../../contracts/report.ts";
import { type Verdict, wasFrozenAllAlong } from "./consistency-verdict.ts";
import type { Answer } from "./hold-answers.ts";
import type { JobRecord } from "./job-record.ts";
import type { BadScripts } from "./script-runner/application-scripts.ts";
import { fitOutputs } from "./script-runner/fit-outputs.ts";

/** The report of a job that is over. */
export function buildReport(
	record: JobRecord,
	verdict: Verdict,
	error: StillpointError | undefined,
	nowMs: number,
): Report {
	const { request } = record;
	const window = windowOf(record);
	return {
		schemaVersion: 1,
		jobId: request.order.jobId,
		requested: request.order.level,
		accepted: request.order.acceptLevel,
		achieved: verdict.achieved,
		held: verdict.held,
		because: [...verdict.because],
		startedAt: record.startedAt.toISOString(),
		...(record.frozenAt === undefined ? {} : { frozenAt: record.frozenAt.toISOString() }),
		...(record.thawedAt === undefined ? {} : { thawedAt: record.thawedAt.toISOString() }),
		durationMs: round(nowMs - record.startedAtMs),
		extension: request.extension,
		...(window === undefined ? {} : { window }),
		fileSystems: fileSystemsOf(record),
		scripts: fitOutputs([...record.badScripts.map(badScriptReport), ...(record.applications?.reports ?? [])]),
		writers: [],
		disks: disksOf(record, verdict),
		notCovered: [...(record.plan?.notCovered ?? []), ...record.notCovered],
		...(error === undefined
			? {}
			: { error: { code: error.code, message: error.message, retryable: error.traits.retryable } }),
	};
}

/** A configuration that can't be run stands where its first script would. */
function badScriptReport({ name, source, error: { code, message, traits, details } }: BadScripts): ScriptReport {
	const known = Object.keys(details).length === 0 ? {} : { details: { ...details } };
	return {
		name,
		source,
		phase: "pre",
		timedOut: false,
		durationMs: 0,
		outputTail: "",
		error: { code, message, retryable: traits.retryable, ...known },
	};
}

function windowOf({ answers, freezingAtMs, predictedMs, predictedStallMs }: JobRecord): Report["window"] {
	const freezes = [...answers.freezes.values()].filter(({ result }) => result === "frozen");
	const thaws = [...answers.thaws.values()].filter(({ result }) => result === "thawed");
	if (freezes.length === 0 || thaws.length === 0) return undefined;
	const firstCallMs = Math.min(...freezes.map((one) => one.startedAtMs));
	const firstFrozenMs = Math.min(...freezes.map((one) => one.endedAtMs));
	const lastFrozenMs = Math.max(...freezes.map((one) => one.endedAtMs));
	const firstThawMs = Math.min(...thaws.map((one) => one.startedAtMs));
	const lastThawMs = Math.max(...thaws.map((one) => one.endedAtMs));
	// The answer of a freeze is lost with a freezer that was ended: its writers were stopped from the beginning on, at most.
	const stalls = [...answers.thaws].flatMap(([superblock, { result, endedAtMs }]) => {
		const sinceMs = answers.freezes.get(superblock)?.startedAtMs ?? freezingAtMs ?? firstCallMs;
		return result === "thawed" || result === "thaw-failed" ? [span(sinceMs, endedAtMs)] : [];
	});
	return {
		...(predictedMs === undefined ? {} : { predictedMs: round(predictedMs) }),
		freezeMs: span(firstCallMs, lastFrozenMs),
		heldMs: span(lastFrozenMs, firstThawMs),
		thawMs: span(firstThawMs, lastThawMs),
		skewMs: span(firstFrozenMs, lastFrozenMs),
		...(predictedStallMs === undefined ? {} : { predictedStallMs: round(predictedStallMs) }),
		stallMs: Math.max(0, ...stalls),
	};
}

function fileSystemsOf(record: JobRecord): FileSystemReport[] {
	const planned = record.plan?.fileSystems ?? [];
	const evidence = record.evidence();
	return planned.map(({ superblock, mountPoint, device, fsType, uuid, disks, level }, index) => {
		const freeze = record.answers.freezes.get(superblock);
		const thaw = record.answers.thaws.get(superblock);
		const known = evidence.fileSystems[index] ?? { superblock };
		const syncMs = record.syncMs.get(superblock);
		const marker = record.markers.get(superblock);
		return {
			mountPoint,
			device,
			superblock,
			fsType,
			...(uuid === undefined ? {} : { uuid }),
			disks: [...disks],
			level,
			result: thaw?.result ?? known.freeze?.result ?? "pending",
			...(syncMs === undefined ? {} : { syncMs: round(syncMs) }),
			...timesOf(freeze, thaw),
			frozenUntilSnapshotEnded: wasFrozenAllAlong(known, evidence),
			...(marker === undefined ? {} : { marker }),
			...errorOf(freeze, thaw),
		};
	});
}

function timesOf(freeze: Answer | undefined, thaw: Answer | undefined) {
	const wasFrozen = freeze?.result === "frozen";
	return {
		...(freeze === undefined ? {} : { freezeMs: span(freeze.startedAtMs, freeze.endedAtMs) }),
		...(wasFrozen && thaw !== undefined ? { heldMs: span(freeze.endedAtMs, thaw.startedAtMs) } : {}),
		...(thaw === undefined ? {} : { thawMs: span(thaw.startedAtMs, thaw.endedAtMs) }),
	};
}

const errorTexts: Partial<Record<FreezeResult, string>> = {
	foreign: "frozen by somebody else",
	unsupported: "the file system can't be frozen",
	failed: "FIFREEZE failed",
	"not-frozen": "thawed by somebody else",
	"thaw-failed": "FITHAW failed",
};

function errorOf(freeze: Answer | undefined, thaw: Answer | undefined): { error?: string } {
	for (const answer of [thaw, freeze]) {
		const text = answer === undefined ? undefined : errorTexts[answer.result];
		if (text !== undefined) return { error: answer?.errno === undefined ? text : `${text} (${answer.errno})` };
	}
	return {};
}

function disksOf(record: JobRecord, verdict: Verdict): DiskReport[] {
	return (record.plan?.disks ?? []).map((disk, index) => {
		const judged = verdict.disks[index];
		const outcome = record.outcomes?.find((one) => one.name === disk.name && one.ok);
		return {
			name: disk.name,
			...(disk.serial === undefined ? {} : { serial: disk.serial }),
			sizeBytes: disk.sizeBytes,
			included: disk.included,
			achieved: judged?.achieved ?? null,
			held: judged?.held ?? "none",
			because: [...(judged?.because ?? [])],
			fileSystemUuids: [...disk.fileSystemUuids],
			...(outcome?.snapshotId === undefined
				? {}
				: { snapshot: { id: outcome.snapshotId, provider: outcome.provider ?? "unknown" } }),
		};
	});
}

function span(fromMs: number, untilMs: number): number {
	return Math.max(0, round(untilMs - fromMs));
}

/** Microseconds are as fine as it makes sense. */
function round(ms: number): number {
	return Math.round(ms * 1000) / 1000;
}
