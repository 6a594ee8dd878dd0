import { type FuzzTarget, fuzzGroups, type TargetGroup } from "./fuzz-target.ts";
import { makeFuzzWorker } from "./fuzz-worker.ts";
import type { SliceFailure } from "./run-slice.ts";
import { makeTargetsOf } from "./target-table.ts";

export type TargetFigures = {
	readonly target: string;
	readonly group: TargetGroup;
	readonly parser: string;
	cases: number;
	accepted: number;
	seconds: number;
	slowestCpuMs: number;
	largestGrowthBytes: number;
	/** The first one ends the target: what comes after it is most often the same again. */
	failure?: SliceFailure;
};

export type FuzzOptions = {
	readonly groups?: readonly TargetGroup[];
	readonly target?: string | undefined;
	readonly seed: number;
	readonly limitMs: number;
	/** How long one target has its turn. */
	readonly sliceMs?: number;
	/** How long a smaller input is looked for when a case hung or ended the thread. */
	readonly shrinkLimitMs?: number;
	readonly samplesFolder: string;
	onTurn?(figures: TargetFigures): void;
};

/** Each target of each group in turn, until the time is over; group after group, each in a process of its own. */
export async function runFuzzRounds(options: FuzzOptions): Promise<TargetFigures[]> {
	const all: TargetFigures[] = [];
	const groups = options.groups ?? fuzzGroups;
	for (const [index, group] of groups.entries()) {
		const made = await makeTargetsOf(group, options.samplesFolder);
		const targets = made.filter(({ name }) => options.target === undefined || name === options.target);
		if (targets.length === 0) continue;
		// Each group has its part of what is left: one that ends early leaves its time to those after it.
		const part = options.target === undefined ? groups.length - index : 1;
		const spentMs = all.reduce((sum, { seconds }) => sum + seconds * 1_000, 0);
		all.push(...(await runGroup(group, targets, options, (options.limitMs - spentMs) / part)));
	}
	return all;
}

async function runGroup(
	group: TargetGroup,
	targets: readonly FuzzTarget[],
	options: FuzzOptions,
	limitMs: number,
): Promise<TargetFigures[]> {
	const { samplesFolder, shrinkLimitMs } = options;
	await using worker = makeFuzzWorker({
		...{ group, samplesFolder },
		...(shrinkLimitMs === undefined ? {} : { shrinkLimitMs }),
	});
	const turns = targets.map((target) => ({ target, figures: noFigures(group, target) }));
	await worker.start();
	const endMs = performance.now() + limitMs;
	for (let round = 0; performance.now() < endMs; round += 1) {
		const open = turns.filter(({ figures }) => figures.failure === undefined);
		if (open.length === 0) break;
		for (const { target, figures } of open) {
			const leftMs = endMs - performance.now();
			// Each has its turn, however little time there is.
			if (leftMs <= 0 && round > 0) break;
			const sliceMs = Math.min(options.sliceMs ?? 2_000, Math.max(leftMs, 1), limitMs / turns.length);
			const beganMs = performance.now();
			const result = await worker.run(target, { seed: seedOf(options.seed, round), limitMs: Math.ceil(sliceMs) });
			figures.seconds += (performance.now() - beganMs) / 1_000;
			figures.cases += result.cases;
			figures.accepted += result.accepted;
			figures.slowestCpuMs = Math.max(figures.slowestCpuMs, result.slowestCpuMs || 0);
			figures.largestGrowthBytes = Math.max(figures.largestGrowthBytes, result.largestGrowthBytes || 0);
			if (result.failure !== undefined) figures.failure = result.failure;
			options.onTurn?.(figures);
		}
	}
	return turns.map(({ figures }) => figures);
}

function noFigures(group: TargetGroup, { name, parser }: FuzzTarget): TargetFigures {
	const none = { cases: 0, accepted: 0, seconds: 0, slowestCpuMs: 0, largestGrowthBytes: 0 };
	return { target: name, group, parser, ...none };
}

/** Another one for each round, 32 bits and signed as fast-check wants it. */
function seedOf(seed: number, round: number): number {
	return (seed + Math.imul(round, 0x9e3779b1)) | 0;
}
