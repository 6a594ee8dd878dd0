import { getHeapStatistics } from "node:v8";
import * as fc from "fast-check";
import { type FuzzTarget, isExpected, usualLimits } from "./fuzz-target.ts";

/** The same slice again is the same cases, as far as its time goes. */
export type Slice = { readonly seed: number; readonly limitMs: number };

export type SliceFailure = {
	readonly what: string;
	/** The smallest input that was found. */
	readonly input: string;
	readonly seed: number;
	readonly path: string;
};

export type SliceResult = {
	readonly cases: number;
	/** How many of them the parser took for good. */
	readonly accepted: number;
	readonly slowestCpuMs: number;
	readonly largestGrowthBytes: number;
	readonly failure?: SliceFailure;
};

const pieceCases = 20;
const shrinkLimitMs = 20_000;
const maxShownInput = 4_000;

/**
 * Cases in pieces of a few, each from a seed of its own, until the time is over: a limit of fast-check's would take a
 * case that never answers for one that was interrupted. Whoever listens to `beat` notices that.
 * @param beat is told the seed of its piece, and when a case begins
 */
export async function runSlice(
	target: FuzzTarget,
	{ seed, limitMs }: Slice,
	beat: (pieceSeed: number, index: number) => void,
): Promise<SliceResult> {
	const found = { cases: 0, accepted: 0, slowestCpuMs: 0, largestGrowthBytes: 0 };
	const endMs = performance.now() + limitMs;
	for (let piece = 0; performance.now() < endMs || piece === 0; piece += 1) {
		const pieceSeed = (seed + Math.imul(piece, 0x2545f491)) | 0;
		const now = { index: 0 };
		const property = fc.asyncProperty(target.inputs, async (input) => {
			beat(pieceSeed, now.index);
			now.index += 1;
			const { cpuMs, growthBytes, accepted } = await measureCase(target, input);
			found.cases += 1;
			if (accepted) found.accepted += 1;
			found.slowestCpuMs = Math.max(found.slowestCpuMs, cpuMs);
			found.largestGrowthBytes = Math.max(found.largestGrowthBytes, growthBytes);
		});
		const run = await fc.check(property, { seed: pieceSeed, numRuns: pieceCases, endOnFailure: true });
		if (!run.failed) continue;
		const { cases, accepted, slowestCpuMs, largestGrowthBytes } = found;
		const path = run.counterexamplePath ?? "0";
		const options = { seed: pieceSeed, path, numRuns: 1, interruptAfterTimeLimit: shrinkLimitMs };
		const shrunk = await fc.check(property, options);
		const failure = describeFailure(shrunk.counterexample === null ? run : shrunk);
		return { cases, accepted, slowestCpuMs, largestGrowthBytes, failure };
	}
	return found;
}

export function describeFailure(run: fc.RunDetails<[unknown]>): SliceFailure {
	const error = run.errorInstance;
	return {
		what: error instanceof Error ? (error.stack ?? error.message) : String(error),
		input: shown(run.counterexample?.[0]).slice(0, maxShownInput),
		seed: run.seed,
		path: run.counterexamplePath ?? "",
	};
}

function shown(input: unknown): string {
	try {
		return fc.stringify(input);
	} catch {
		return "too deep to be shown: look at it by --path";
	}
}

type CaseCost = { readonly cpuMs: number; readonly growthBytes: number; readonly accepted: boolean };

/** @throws what the parser must not throw, or that it took too much */
export async function measureCase(target: FuzzTarget, input: unknown): Promise<CaseCost> {
	const heldBefore = heldBytes();
	const before = process.threadCpuUsage();
	let accepted = true;
	try {
		await target.run(input);
	} catch (error) {
		if (!isExpected(target, error)) throw error;
		accepted = false;
	}
	const { user, system } = process.threadCpuUsage(before);
	const cpuMs = (user + system) / 1_000;
	const growthBytes = heldBytes() - heldBefore;
	const limits = { ...usualLimits, ...target.limits };
	if (cpuMs > limits.cpuMs) throw new Error(`took ${Math.round(cpuMs)} ms of CPU time`);
	if (growthBytes > limits.growthBytes) throw new Error(`grew by ${Math.round(growthBytes / 1_048_576)} MiB`);
	return { cpuMs, growthBytes, accepted };
}

/** Of this thread: objects, and buffers outside of the heap. */
function heldBytes(): number {
	const { used_heap_size, external_memory } = getHeapStatistics();
	return used_heap_size + external_memory;
}
