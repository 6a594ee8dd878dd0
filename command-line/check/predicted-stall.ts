/** How long a freeze would stop writers now: an estimate, and said to be one. */
import type { Finding, PredictedStall } from "../../contracts/check.ts";
import { predictStallMs, readUnwritten } from "../../platform/linux/predict-stall.ts";
import { humanBytes, humanMs } from "../output.ts";

/** The hold limit of an order that names none. */
const usualHoldMs = 10_000;

export async function readPredictedStall(given: {
	disks: readonly { name: string; number: string }[];
	fileSystems: readonly { level: number }[];
	expedited: boolean;
}): Promise<PredictedStall> {
	const { dirtyBytes, slowest } = await readUnwritten(given.disks);
	const { expedited } = given;
	const idle = given.fileSystems.map(({ level }) => ({ level, writeOutMs: 0 }));
	const freezeMs = Math.ceil(predictStallMs({ fileSystems: idle, expedited }));
	if (slowest === undefined) return { dirtyBytes, freezeMs };
	const writeOutMs = (dirtyBytes / slowest.bytesPerSecond) * 1000;
	const predictedMs = Math.round(freezeMs + writeOutMs);
	return { dirtyBytes, freezeMs, ...slowest, predictedMs };
}

export function stallText({ dirtyBytes, disk, bytesPerSecond, predictedMs, freezeMs }: PredictedStall): string {
	const dirty = `${humanBytes(dirtyBytes)} are not written yet`;
	const idle = freezeMs === undefined ? "" : `, about ${humanMs(freezeMs)} when all is written`;
	if (predictedMs === undefined || bytesPerSecond === undefined)
		return `${dirty}${idle}; too little was written since boot to tell how fast the disks are`;
	const speed = `${humanBytes(bytesPerSecond)}/s of ${disk} since boot`;
	return `at most about ${humanMs(predictedMs)}${idle} (estimate: ${dirty}, ${speed}); a job syncs before it freezes`;
}

export function stallFinding(stall: PredictedStall, budgetMs: number | null = null): Finding {
	const isLong = (stall.predictedMs ?? 0) > usualHoldMs;
	const isRefused = budgetMs !== null && (stall.freezeMs ?? 0) > budgetMs;
	if (isRefused)
		return {
			check: "stall",
			status: "fail",
			what: stallText(stall),
			why: `freeze.stallBudgetMs is ${humanMs(budgetMs)}: every order is refused, even with nothing to write out.`,
			remedy: "Raise freeze.stallBudgetMs, or leave freeze.expedited switched on.",
		};
	return {
		check: "stall",
		status: isLong ? "warn" : "ok",
		what: stallText(stall),
		...(isLong
			? {
					why: `An order holds for ${humanMs(usualHoldMs)} unless it says otherwise.`,
					remedy: "Order in a quieter hour, or lower vm.dirty_bytes.",
				}
			: {}),
	};
}
