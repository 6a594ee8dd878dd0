import { StillpointError } from "../../contracts/errors.ts";
import { atLeast } from "../../contracts/level.ts";
import { becauseTexts } from "../../contracts/report.ts";
import { foreseeLevel, judge } from "./consistency-verdict.ts";
import type { Job } from "./job.ts";

/** Level and what is accepted are compared before anything is touched. */
export function requireReachable({ record }: Job): void {
	const { order } = record.request;
	const evidence = record.evidence();
	const bad = record.badScripts.find(({ onFailure }) => onFailure === "fail");
	if (bad !== undefined) throw bad.error;
	const reachable = foreseeLevel(evidence);
	if (atLeast(reachable, order.acceptLevel)) {
		if (record.plan?.targets.length !== 0 || order.acceptLevel === "crash") return;
		throw new StillpointError("nothing-to-freeze", "no file system lies on the disks of the order");
	}
	if (reachable !== "crash") {
		const details = { reachable, because: ["no-applications"] };
		throw new StillpointError("level-unreachable", `${reachable} at best: ${becauseTexts["no-applications"]}`, {
			details,
		});
	}
	// What the verdict would say if all went well from here.
	const { because } = judge({ ...evidence, window: { fromMs: 0, untilMs: 0 }, lookedAgain: true, fileSystems: [] });
	const known = because.filter((word) => word !== "evidence-lost" && word !== "snapshot-not-taken");
	throw new StillpointError(
		"level-unreachable",
		`${reachable} at best: ${known.map((word) => becauseTexts[word]).join(" ")}`,
		{ details: { reachable, because: known } },
	);
}
