import { type ErrorCode, StillpointError } from "../../contracts/errors.ts";
import { atLeast, type Level } from "../../contracts/level.ts";
import { type Because, becauseTexts } from "../../contracts/report.ts";
import type { Verdict } from "./consistency-verdict.ts";

/** The gravest first: what failed the job when the level that was reached is below what the order accepts. */
const codes: readonly (readonly [Because, ErrorCode])[] = [
	["snapshot-failed", "snapshot-failed"],
	["snapshot-not-taken", "snapshot-failed"],
	["foreign-freeze", "foreign-freeze"],
	["freeze-failed", "freeze-failed"],
	["thawed-by-other", "thawed-by-other"],
	["thawed-early", "hold-expired"],
	["script-hold-lost", "script-hold-lost"],
	["script-failed", "script-failed"],
];

/** Undefined: the order accepts what was reached. Where nobody tells of a snapshot, the hold is what counts. */
export function judgeFailure(verdict: Verdict, accepted: Level): StillpointError | undefined {
	const level = verdict.achieved ?? verdict.held;
	if (level !== "none" && atLeast(level, accepted)) return undefined;
	const code = codes.find(([because]) => verdict.because.includes(because))?.[1] ?? "level-unreachable";
	const why = verdict.because.map((because) => becauseTexts[because]).join(" ");
	return new StillpointError(code, `reached ${level}, accepted is ${accepted}${why === "" ? "" : `: ${why}`}`, {
		details: { because: verdict.because },
	});
}
