import { setTimeout as sleep } from "node:timers/promises";
import { median, round } from "../figures.ts";
import { monotonicMs } from "../hold-once.ts";
import { type Random, shuffled } from "../random-order.ts";
import type { CaseMachine } from "./case-machine.ts";
import type { Contender, ContenderName, Turn } from "./contender.ts";
import { switchExpeditedOff, watchExpedited } from "./expedited-switch.ts";
import { type Felt, feltBy } from "./gaps.ts";

/** Between a thaw and the next freeze: within some 10 ms of a thaw the kernel freezes for next to nothing. */
const apartMs = 500;
/** A part of each round in which nobody does anything, to see what the probes feel of themselves and of the machine. */
const quietMs = 300;
const settleMs = 100;
/** Of a contender in a case; more and the case can't be measured here. */
const maxFailures = 10;

/** Medians over the rounds, in ms. */
export type ContenderFigures = Felt & {
	/** Of each round, in the order in which they were run. */
	readonly rounds: { readonly frozenStallMs: number[]; readonly jobStallMs: number[]; readonly skewMs: number[] };
	/** What it says of itself. */
	readonly own: Readonly<Record<string, number>>;
};

export type CaseFigures = {
	readonly contenders: Partial<Record<ContenderName, ContenderFigures>>;
	/** The longest gap of any probe in `quietMs` of quiet: what a stall can't be told from. */
	readonly noiseMs: number;
	/** Turns that failed and were run again: a hold that was worth less than a freeze is no figure. */
	readonly failures: readonly { readonly who: ContenderName; readonly message: string }[];
};

/** All contenders, each round in another order, on the same file systems. */
export async function measureCase(
	{ probes, makeDirty }: CaseMachine,
	contenders: readonly Contender[],
	{ rounds, random, signal }: { rounds: number; random: Random; signal: AbortSignal },
): Promise<CaseFigures> {
	const felt = new Map<ContenderName, { felt: Felt; turn: Turn }[]>(contenders.map(({ name }) => [name, []]));
	const noise: number[] = [];
	const failures: { who: ContenderName; message: string }[] = [];
	let thawedAtMs = monotonicMs();
	for (let count = 0; count < rounds; count += 1) {
		noise.push(await feelQuiet());
		for (const contender of shuffled(contenders, random)) felt.get(contender.name)?.push(await takeTurn(contender));
	}
	const figures = [...felt].map(([name, turns]) => [name, figuresOf(turns)] as const);
	return { contenders: Object.fromEntries(figures), noiseMs: round(median(noise)), failures };

	async function takeTurn(contender: Contender): Promise<{ felt: Felt; turn: Turn }> {
		for (;;) {
			await makeDirty();
			try {
				using watch = new DisposableStack();
				let isSpoiled = () => false;
				const turn = await contender.run(async () => {
					await restUntil(thawedAtMs + apartMs);
					await switchExpeditedOff(signal);
					if (contender.isExpedited) return;
					const watched = watch.use(watchExpedited());
					isSpoiled = () => watched.wasOn;
				}, signal);
				thawedAtMs = turn.frozen.untilMs;
				if (isSpoiled()) throw new Error("somebody else switched rcu_expedited on meanwhile");
				const { fromMs, untilMs } = turn.job;
				const found = await probes.read(fromMs, Math.max(untilMs, thawedAtMs), signal);
				return { felt: feltBy(found, turn.frozen, turn.job), turn };
			} catch (error) {
				thawedAtMs = monotonicMs();
				failures.push({ who: contender.name, message: (error as Error).message });
				if (signal.aborted || failures.filter(({ who }) => who === contender.name).length > maxFailures) throw error;
			}
		}
	}

	async function restUntil(atMs: number): Promise<void> {
		await sleep(Math.max(0, atMs - monotonicMs()), undefined, { signal });
	}

	async function feelQuiet(): Promise<number> {
		await sleep(settleMs, undefined, { signal });
		const fromMs = monotonicMs();
		await sleep(quietMs, undefined, { signal });
		const quiet = { fromMs, untilMs: monotonicMs() };
		return feltBy(await probes.read(fromMs, quiet.untilMs, signal), quiet, quiet).jobStallMs;
	}
}

function figuresOf(turns: readonly { felt: Felt; turn: Turn }[]): ContenderFigures {
	const of = (key: keyof Felt) => turns.map(({ felt }) => round(felt[key]));
	const names = [...new Set(turns.flatMap(({ turn }) => Object.keys(turn.own)))];
	const own = names.flatMap((name) => {
		const told = turns.map(({ turn }) => turn.own[name]).filter((value) => Number.isFinite(value)) as number[];
		return told.length === 0 ? [] : [[name, round(median(told))]];
	});
	const rounds = { frozenStallMs: of("frozenStallMs"), jobStallMs: of("jobStallMs"), skewMs: of("skewMs") };
	return {
		frozenStallMs: round(median(rounds.frozenStallMs)),
		jobStallMs: round(median(rounds.jobStallMs)),
		skewMs: round(median(rounds.skewMs)),
		rounds,
		own: Object.fromEntries(own),
	};
}
