import { StillpointError } from "../../contracts/errors.ts";
import { atLeast, type Level } from "../../contracts/level.ts";
import { type Because, becauseTexts } from "../../contracts/report.ts";
import { foreseeLevel, judge } from "./consistency-verdict.ts";
import type { Job } from "./job.ts";

/** Level and what is accepted are compared before anything is touched. */
export function requireReachable({ record }: Pick<Job, "record">): void {
	const { order } = record.request;
	const evidence = record.evidence();
	const bad = record.badScripts.find(({ onFailure }) => onFailure === "fail");
	if (bad !== undefined) throw bad.error;
	const reachable = foreseeLevel(evidence);
	if (atLeast(reachable, order.acceptLevel)) {
		if (record.plan?.targets.length !== 0 || order.acceptLevel === "crash") return;
		throw new StillpointError("nothing-to-freeze", "no file system lies on the disks of the order");
	}
	const [first] = record.badScripts;
	if (reachable !== "crash" && first !== undefined) {
		throw unreachable(reachable, ["script-failed"], `${first.name}: ${first.error.message}`);
	}
	if (reachable !== "crash") throw unreachable(reachable, ["no-applications"]);
	// What the verdict would say if all went well from here.
	const { because } = judge({ ...evidence, window: { fromMs: 0, untilMs: 0 }, lookedAgain: true, fileSystems: [] });
	const known = because.filter((word) => word !== "evidence-lost" && word !== "snapshot-not-taken");
	const file = record.freezeDisabledBy;
	throw unreachable(reachable, known, ...(file === undefined ? [] : [`${file}: fsFreezeEnabled is false`]));
}

function unreachable(reachable: Level, because: readonly Because[], ...more: readonly string[]): StillpointError {
	const why = [...because.map((word) => becauseTexts[word]), ...more].join(" ");
	return new StillpointError("level-unreachable", `${reachable} at best: ${why}`, { details: { reachable, because } });
}
