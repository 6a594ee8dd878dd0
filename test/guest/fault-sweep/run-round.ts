/** One round: aim, strike, let the machine come to rest, and look at everything that was promised. */
import { monotonicMs } from "../../fixtures/write-prober.ts";
import { type Aim, aim, findProcess, Missed } from "../fault-table/aim.ts";
import type { Phase } from "../fault-table/cells.ts";
import type { Lane } from "../fault-table/lane.ts";
import { rest } from "../fault-table/rest.ts";
import { checkRound } from "./check-round.ts";
import { findPoint } from "./find-point.ts";
import type { Heartbeat } from "./heartbeat.ts";
import { holdLimitMs, type Scene, type SweepMachine } from "./scene.ts";
import { makeRandom, type Round } from "./schedule.ts";
import { strike } from "./strike.ts";
import type { Point } from "./sweep-cells.ts";

export type RoundOutcome = {
	readonly index: number;
	/** Where it was when it was struck, by kernel and ledger. Absent: it never was where it was wanted. */
	readonly hit?: Point;
	/** How often it was tried until it was there. */
	readonly attempts: number;
	/** Why the attempts before did not get there. */
	readonly misses: readonly string[];
	readonly phase: string;
	/** What the fault came to. */
	readonly note: string;
	/** Absent: there is no report. */
	readonly level?: string;
	/** Absent: the job is done. */
	readonly code?: string;
	readonly message?: string;
	readonly longestWriteMs: number;
	readonly tookMs: number;
	/** The longest that the machine left the tests without a processor. */
	readonly starvedMs: number;
	/** What was not as promised. */
	readonly faults: readonly string[];
	/** The machine is not fit for another round. */
	readonly spoils: boolean;
};

const mostAttempts = 4;
/** Enough to be seen in, and little beside the hold. */
const slowReads = 2;

export async function runRound(lane: Lane<SweepMachine>, round: Round, heartbeat: Heartbeat): Promise<RoundOutcome> {
	const beganMs = performance.now();
	const misses: string[] = [];
	for (let attempt = 1; ; attempt += 1) {
		const jobId = `r${round.index}-${attempt}`;
		const common = { index: round.index, attempts: attempt, misses };
		const times = () => ({
			tookMs: Math.round(performance.now() - beganMs),
			starvedMs: heartbeat.longestGapMs(beganMs),
		});
		try {
			return { ...(await tryRound(lane, round, jobId, () => heartbeat.longestGapMs(beganMs))), ...common, ...times() };
		} catch (error) {
			// A machine that met what nobody thought of, or where nothing can be hit, is not used again.
			const unknown = { phase: "", note: "", longestWriteMs: 0, spoils: true };
			if (!(error instanceof Missed)) return { ...common, ...times(), ...unknown, faults: [explain(error)] };
			misses.push(error.message);
			try {
				await lane.restart();
				const missed = await rest(lane, jobId);
				if (missed?.error !== undefined) misses.push(`${missed.error.code}: ${missed.error.message}`);
			} catch (afterwards) {
				return { ...common, ...times(), ...unknown, faults: [explain(afterwards)] };
			}
			if (attempt === mostAttempts) return { ...common, ...times(), ...unknown, faults: [] };
		}
	}
}

async function tryRound(
	lane: Lane<SweepMachine>,
	round: Round,
	jobId: string,
	starvedMs: () => number,
): Promise<Omit<RoundOutcome, "index" | "attempts" | "misses" | "tookMs" | "starvedMs">> {
	const random = makeRandom(round.seed);
	// A link that a busy machine lost is no fault of this round.
	await lane.restart();
	const sinceMs = monotonicMs();
	const wanted = choosePhase(round, random);
	await using aimed = await aim(lane, { ...wanted, jobId, holdLimitMs, slowReads });
	const { phase } = wanted;
	const pids = {
		agent: lane.agent.pid,
		controller: lane.controller.pid,
		guard: lane.guard?.pid ?? 0,
		extension: findProcess(lane, "extension", phase),
		freezer: findProcess(lane, "freezer", phase),
		script: findProcess(lane, "script", phase),
	};
	const { runDir } = lane.folders.flags;
	const { job } = await lane.status();
	const hit = findPoint({ freezer: pids.freezer, runDir, jobId, phase: job?.phase ?? "" });
	if (hit !== round.cell.point) throw new Missed(`${jobId} was ${hit ?? "over"}`);
	const scene: Scene = { lane, round, jobId, random, starvedMs, pids };
	const struck = await strike(scene);
	await aimed[Symbol.asyncDispose]();
	await struck.settle?.();
	await lane.restart();
	const ended = await rest(lane, jobId);
	const found = await checkRound({ lane, jobId, job: ended, struck, sinceMs });
	const error = ended?.error ?? ended?.report?.error;
	return {
		...(hit === undefined ? {} : { hit }),
		phase,
		note: struck.note ?? "",
		...(error === undefined ? {} : { code: error.code, message: error.message }),
		...(ended?.report === undefined ? {} : { level: ended.report.achieved ?? "unknown" }),
		longestWriteMs: Math.round(found.longestWriteMs),
		faults: found.faults,
		spoils: struck.spoils === true,
	};
}

function choosePhase({ cell }: Round, random: () => number): Pick<Aim, "phase" | "component" | "beforeFreeze"> {
	const { victim, point } = cell;
	const early: readonly Phase[] = ["planning", "preparing", "prepared", "scripts"];
	// A script runs in one of them, and a freezer that is to be struck must be there.
	const possible = victim === "script" ? early.slice(3) : victim === "freezer" ? early.slice(1) : early;
	const component =
		victim === "agent" || victim === "extension" || victim === "freezer" || victim === "script" ? victim : undefined;
	return {
		phase: point === "before" ? (possible[Math.floor(random() * possible.length)] as Phase) : point,
		component,
		beforeFreeze: random() < 0.5,
	};
}

/** It has to be tried again: it neither kept a promise nor broke one. */
export function isMissed({ hit, faults }: RoundOutcome): boolean {
	return hit === undefined && faults.length === 0;
}

function explain(error: unknown): string {
	return error instanceof Error ? (error.stack ?? String(error)) : String(error);
}
