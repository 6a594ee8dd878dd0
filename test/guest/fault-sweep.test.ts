/**
 * A sample of the sweep: faults of every kind at every point of a hold, over several shapes of storage. Always the
 * same rounds, so that a change is judged by what it changed; `npm run test:faults -- --rounds N` takes a new seed, runs
 * as many as wanted, and repeats any of them.
 */
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { startForeignHand } from "../fixtures/foreign-hand.ts";
import { freeze, thaw } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { monotonicMs } from "../fixtures/write-prober.ts";
import { checkRound, checkStored } from "./fault-sweep/check-round.ts";
import { findPoint } from "./fault-sweep/find-point.ts";
import { startHeartbeat } from "./fault-sweep/heartbeat.ts";
import { formatOutcome, formatSummary } from "./fault-sweep/print-sweep.ts";
import { watchRcu } from "./fault-sweep/rcu-watch.ts";
import { isMissed, type RoundOutcome, runRound } from "./fault-sweep/run-round.ts";
import { countLanes, runSweep } from "./fault-sweep/run-sweep.ts";
import { holdLimitMs, promiseMs } from "./fault-sweep/scene.ts";
import { planRounds } from "./fault-sweep/schedule.ts";
import { openSweepLane } from "./fault-sweep/sweep-lane.ts";
import { findSweepShapes, lacksForSweep } from "./fault-sweep/sweep-tools.ts";
import { runGoodJob } from "./fault-table/good-job.ts";

const missing = lacksForSweep();
/** No round begins after this. */
const sampleMs = 75_000;
const mostRounds = 400;
const seed = 101;
/** A machine that does not come so far is too slow for the promises, too. */
const leastRounds = 8;

describe.skipIf(missing)(`whatever happens to a hold${missing ? `: ${missing}` : ""}`, () => {
	test.concurrent("a sample of the sweep keeps every promise", async () => {
		const rounds = planRounds(seed, mostRounds, findSweepShapes());
		const outcomes = new Map<number, RoundOutcome>();
		const beganMs = performance.now();
		const faults = await runSweep({
			rounds,
			lanes: countLanes(navigator.hardwareConcurrency),
			signal: AbortSignal.timeout(sampleMs),
			onOutcome(round, outcome) {
				outcomes.set(outcome.index, outcome);
				process.stdout.write(`${formatOutcome(round, outcome)}\n`);
			},
		});
		const replay = `npm run test:faults -- --seed ${seed}`;
		const wallMs = performance.now() - beganMs;
		process.stdout.write(
			`${formatSummary({ rounds: rounds.filter(({ index }) => outcomes.has(index)), outcomes, faults, replay, wallMs })}\nseed ${seed}\n`,
		);
		const wrong = [...outcomes.values()].flatMap((one) => one.faults.map((fault) => `#${one.index}: ${fault}`));
		expect([...faults, ...wrong], `again: ${replay} --round N`).toEqual([]);
		expect([...outcomes.values()].filter((one) => !isMissed(one)).length).toBeGreaterThanOrEqual(leastRounds);
	});

	test.concurrent("the checks of a round see what they are for (negative control)", async () => {
		const variant = { shape: "bind", clock: false, database: true } as const;
		await using lane = await openSweepLane({ variant, block: 0 });
		const { jobId, job, sinceMs } = await runGoodJob(lane, holdLimitMs);
		expect((await checkRound({ lane, jobId, job, struck: {}, sinceMs })).faults).toEqual([]);

		const { runDir } = lane.folders.flags;
		const [folder = ""] = lane.machine.writable;
		const [image] = lane.machine.images;
		const point = await lane.client.readRecoveryPoint(job.recoveryPointId ?? "");
		const taken = join(lane.controllerState, "recovery-points", point.id, point.disks[0]?.image ?? "");
		copyFileSync(image?.imagePath ?? "", taken);
		const over = join(folder, "over");
		mkdirSync(over);
		await execa("mount", ["-t", "tmpfs", "tmpfs", over]);
		mkdirSync(join(runDir, "freezes"), { recursive: true });
		writeFileSync(join(runDir, "freezes", "other.json"), "");
		const child = spawn("sleep", ["60"], { env: { ...process.env, STILLPOINT_JOB_ID: jobId } });
		await freeze(folder);
		await sleep(holdLimitMs + promiseMs + 300);
		await thaw(folder);
		const holding = new DatabaseSync(join(folder, "shop.sqlite"), { timeout: 10_000 });
		holding.exec("BEGIN IMMEDIATE");
		const told = job.report && { ...job.report, achieved: "file-system" as const, scripts: [] };
		const changed = { ...job, report: told };
		const struck = { best: () => "crash" as const, check: async () => ["what the fault itself has to say"] };
		const { faults } = await checkRound({ lane, jobId, job: changed, struck, sinceMs });
		holding.close();
		child.kill("SIGKILL");
		rmSync(join(runDir, "freezes", "other.json"));
		await execa("umount", [over]);
		for (const word of [
			/nothing could be written for \d+ ms/,
			/what the fault itself has to say/,
			/said to be application, can be crash at best/,
			/labelled above its report/,
			/agent and controller keep different reports/,
			/the database is held/,
			/still: /,
			/process \d+ is left: sleep 60/,
			/freezes\/other\.json is left/,
			/now: mount tmpfs/,
		])
			expect(faults.join("\n")).toMatch(word);
		const lost = { lane, jobId: "other", job: undefined, struck: {}, sinceMs: monotonicMs() };
		expect((await checkRound(lost)).faults).toContain("the controller does not know the job");
		const reportless = { ...job, report: undefined, error: { code: "stuck", message: "" } as const };
		const { faults: more } = await checkRound({ lane, jobId, job: reportless, struck: {}, sinceMs: monotonicMs() });
		expect(more).toEqual(expect.arrayContaining(["the report was lost", "ended as stuck, and nothing was"]));
		await lane.controller[Symbol.asyncDispose]();
		using database = new DatabaseSync(join(lane.controllerState, "controller.sqlite"));
		database.exec("insert into rejected_reports values ('a', 7, '', '')");
		database.exec("insert into recovery_points select id || 'b', agent_id, job_id, created_at from recovery_points");
		database.close();
		expect(await checkStored(lane)).toEqual([
			`the controller keeps more than one recovery point of ${jobId}`,
			"the controller turned report 7 away",
		]);
	});

	test.concurrent("a freeze of others that is undone is seen, and where a hold is", async () => {
		const variant = { shape: "swap-file", clock: false, database: false } as const;
		await using lane = await openSweepLane({ variant, block: 0 });
		const [folder = ""] = lane.machine.writable;
		await using hand = startForeignHand("freeze", folder);
		expect(await hand.next()).toBe("frozen");
		expect(await thaw(folder)).toBe(true);
		hand.stop();
		expect(await hand.next()).toBe("EINVAL");
		const seen = { freezer: 0, runDir: lane.folders.flags.runDir, jobId: "none" };
		expect(findPoint({ ...seen, phase: "scripts" })).toBe("before");
		expect(findPoint({ ...seen, phase: "post" })).toBeUndefined();
	});

	test.concurrent("rcu_expedited that stays on without a marker is seen", async () => {
		const folder = mkdtempSync(join(tmpdir(), "stillpoint-test-rcu-"));
		const path = join(folder, "switch");
		writeFileSync(path, "0\n");
		mkdirSync(join(folder, "freezes"));
		using watch = watchRcu(() => [folder], path);
		const marker = join(folder, "freezes", "rcu-expedited.1.1");
		writeFileSync(marker, "");
		writeFileSync(path, "1\n");
		await sleep(2_000);
		expect(watch.faults).toEqual([]);
		rmSync(marker);
		await poll(() => watch.faults, 10_000).toHaveLength(1);
		rmSync(folder, { recursive: true });
	});

	// Alone: the switch is one for the machine.
	test("rcu_expedited that others switched on stays on, whoever of ours is killed", async () => {
		const path = "/sys/kernel/rcu_expedited";
		const before = readFileSync(path, "latin1").trim();
		using _back = { [Symbol.dispose]: () => writeFileSync(path, before) };
		writeFileSync(path, "1");
		const variant = { shape: "bind", clock: false, database: false } as const;
		await using lane = await openSweepLane({ variant, block: 0 });
		using heartbeat = startHeartbeat();
		for (const [index, victim] of (["others", "freezer", "all"] as const).entries()) {
			const fault = victim === "others" ? "second-order" : "killed";
			const cell = { victim, fault, point: "freezing" } as const;
			const outcome = await runRound(lane, { index, cell, variant, block: 0, seed: index }, heartbeat);
			expect(outcome.faults).toEqual([]);
			expect(readFileSync(path, "latin1").trim(), `${victim} ${fault}`).toBe("1");
		}
	});
});
