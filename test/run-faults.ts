/**
 * `npm run test:faults`: without arguments the table of faults; with `--rounds N` the sweep, as long as wanted
 * (`--help`).
 */
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { bundleInto } from "./fixtures/bundle.ts";
import { testPrograms } from "./fixtures/programs.ts";
import { formatOutcome, formatSummary } from "./guest/fault-sweep/print-sweep.ts";
import { isMissed, type RoundOutcome } from "./guest/fault-sweep/run-round.ts";
import { countLanes, runSweep } from "./guest/fault-sweep/run-sweep.ts";
import { planRounds, type Round } from "./guest/fault-sweep/schedule.ts";
import { findSweepPlan, openSweepState, type SweepPlan } from "./guest/fault-sweep/sweep-state.ts";
import { findSweepShapes, lacksForSweep } from "./guest/fault-sweep/sweep-tools.ts";
import { parseSweepWords, type SweepWords, sweepUsage } from "./guest/fault-sweep/sweep-words.ts";

const cache = resolve(import.meta.dirname, "../node_modules/.cache/stillpoint-faults");
/** How often rounds that hit nothing are tried again, when all others are done. */
const passes = 4;
const say = (line: string) => void process.stdout.write(`${line}\n`);
const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const)
	process.on(signal, () => {
		say("The rounds that have begun come to their end; the same command goes on from there.");
		stopping.abort();
	});

process.exitCode = await main();

async function main(): Promise<number> {
	const words = parseWords();
	if (words === undefined) return 2;
	if (words === "table") return runTable();
	if (words !== "help") return runRounds(words);
	say(sweepUsage);
	return 0;
}

/** Undefined: said what is wrong. */
function parseWords(): ReturnType<typeof parseSweepWords> | undefined {
	try {
		return parseSweepWords(process.argv.slice(2));
	} catch (error) {
		if (!(error instanceof RangeError)) throw error;
		say(`${error.message}\n${sweepUsage}`);
		return undefined;
	}
}

async function runRounds(words: SweepWords): Promise<number> {
	const { round: only, block, seed: wanted } = words;
	const isReplay = only !== undefined || block !== undefined;
	const missing = lacksForSweep();
	if (missing !== undefined) {
		say(`The sweep ${missing}.`);
		return 1;
	}
	const count = words.rounds ?? 0;
	const path = words.resume ?? fileOf(wanted ?? findUnfinished(count) ?? randomInt(2 ** 32));
	const plan: SweepPlan = findSweepPlan(path) ?? { seed: wanted ?? seedOf(path), shapes: findSweepShapes() };
	if (wanted !== undefined && plan.seed !== wanted) throw new Error(`${path} is of the seed ${plan.seed}`);
	const all = planRounds(plan.seed, Math.max(count, (only ?? -1) + 1, ((block ?? -1) + 1) * 4), plan.shapes);
	const state = isReplay ? undefined : openSweepState(path, plan);
	const rounds = all.filter(({ index, block: of }) =>
		isReplay ? index === only || of === block : index < count && !state?.done.has(index),
	);
	const lanes = words.lanes ?? countLanes(navigator.hardwareConcurrency);
	say(`seed ${plan.seed}, ${rounds.length} rounds to run, ${lanes} at a time`);
	if (state !== undefined) say(`kept in ${path}`);
	const programs = mkdtempSync(join(tmpdir(), "stillpoint-test-programs-"));
	const outcomes = new Map(state?.done);
	const beganMs = performance.now();
	try {
		await bundleInto(programs, testPrograms);
		process.env["STILLPOINT_TEST_PROGRAMS"] = programs;
		const faults: string[] = [];
		for (let pass = 0; pass < passes && !stopping.signal.aborted; pass += 1) {
			const left = rounds.filter(({ index }) => state?.done.has(index) !== true && isOpen(outcomes.get(index)));
			if (left.length === 0) break;
			if (pass > 0) say(`${left.length} rounds that never hit are tried again`);
			const onOutcome = (round: Round, outcome: RoundOutcome) => {
				outcomes.set(outcome.index, outcome);
				if (!isMissed(outcome)) state?.add(outcome);
				const count = [...outcomes.values()].filter((one) => !isOpen(one)).length;
				say(`${count}/${isReplay ? rounds.length : all.length} ${formatOutcome(round, outcome)}`);
			};
			faults.push(...(await runSweep({ rounds: left, lanes, signal: stopping.signal, onOutcome })));
		}
		const replay = `npm run test:faults -- --seed ${plan.seed}`;
		const shown = isReplay ? rounds : all;
		say(formatSummary({ rounds: shown, outcomes, faults, replay, wallMs: performance.now() - beganMs }));
		const isWrong = faults.length > 0 || shown.some(({ index }) => (outcomes.get(index)?.faults.length ?? 0) > 0);
		return isWrong || shown.some(({ index }) => isOpen(outcomes.get(index))) ? 1 : 0;
	} finally {
		rmSync(programs, { recursive: true, force: true });
	}
}

/** It is to be tried, or tried again. */
function isOpen(outcome: RoundOutcome | undefined): boolean {
	return outcome === undefined || isMissed(outcome);
}

function runTable(): number {
	const program = resolve(import.meta.dirname, "run-tests.ts");
	return spawnSync(process.execPath, [program, "--project=faults"], { stdio: "inherit" }).status ?? 1;
}

function fileOf(seed: number): string {
	return join(cache, `sweep-${seed}.jsonl`);
}

function seedOf(path: string): number {
	return Number(/sweep-(\d+)\.jsonl$/.exec(path)?.[1] ?? randomInt(2 ** 32));
}

/** The seed of the newest sweep that was begun here, when rounds of it are left. */
function findUnfinished(count: number): number | undefined {
	try {
		const [newest] = readdirSync(cache)
			.filter((name) => /^sweep-\d+\.jsonl$/.test(name))
			.map((name) => ({ name, at: statSync(join(cache, name)).mtimeMs }))
			.sort((a, b) => b.at - a.at);
		if (newest === undefined) return undefined;
		const path = join(cache, newest.name);
		const plan = findSweepPlan(path);
		const { done } = plan === undefined ? { done: new Map() } : openSweepState(path, plan);
		return [...Array(count).keys()].every((index) => done.has(index)) ? undefined : seedOf(newest.name);
	} catch {
		return undefined;
	}
}
