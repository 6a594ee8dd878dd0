/**
 * Every parser of outside bytes, for a minute in all. The seed is the same each time, so that a slower machine looks at
 * fewer of the same cases and finds nothing that is new to it; new ones are looked for by `npm run fuzz`.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runFuzzRounds, type TargetFigures } from "./fuzz-rounds.ts";
import { fuzzGroups } from "./fuzz-target.ts";
import { makeFuzzWorker } from "./fuzz-worker.ts";
import { makeSamples, type Samples } from "./make-samples.ts";
import { makeTargetsOf } from "./target-table.ts";

const seed = 20_261_120;
const wholeMs = 52_000;

let samples: Samples;
beforeAll(() => {
	samples = makeSamples();
});
afterAll(() => samples[Symbol.dispose]());

describe("parsers of outside bytes", () => {
	test.each(fuzzGroups)("of %s end well or with an error of ours, in time and in little memory", async (group) => {
		const figures = await runFuzzRounds({
			groups: [group],
			seed,
			limitMs: wholeMs / fuzzGroups.length,
			sliceMs: 500,
			samplesFolder: samples.folder,
		});
		expect(figures.flatMap(told)).toEqual([]);
		expect(figures.filter(({ cases }) => cases === 0).map(({ target }) => target)).toEqual([]);
	});

	test("have names of their own", async () => {
		const names = (await Promise.all(fuzzGroups.map((group) => makeTargetsOf(group, samples.folder))))
			.flat()
			.map(({ name }) => name);
		expect(names.length).toBeGreaterThan(70);
		expect(new Set(names).size).toBe(names.length);
	});
});

/** What is wrong in each way must be found, or the quiet of all others says nothing. */
describe("a parser that is broken is found:", () => {
	const found: Record<string, RegExp> = {
		crashes: /TypeError/,
		"rejects-later": /nobody waits/,
		"is-slow": /ms of CPU time|one case took more/,
		"believes-a-length": /grew by \d+ MiB/,
		hoards: /SIGABRT|out of memory/,
		"wrong-answer": /another text came back/,
	};

	test.each(Object.entries(found))("one that %s", async (target, what) => {
		const [figures] = await runFuzzRounds({
			...{ groups: ["broken"] as const, target, seed, limitMs: 10_000, sliceMs: 2_000, shrinkLimitMs: 3_000 },
			samplesFolder: samples.folder,
		});
		expect(figures?.failure?.what).toMatch(what);
	});

	test.each(["hangs", "never-answers"])("one that %s, and its input is shown", async (name) => {
		const target = (await makeTargetsOf("broken", samples.folder)).find((one) => one.name === name);
		if (target === undefined) throw new Error(name);
		const limits = { hangLimitMs: 3_000, shrinkLimitMs: 5_000 };
		await using worker = makeFuzzWorker({ group: "broken", samplesFolder: samples.folder, ...limits });
		const { failure } = await worker.run(target, { seed, limitMs: 1_000 });
		expect(failure?.what).toMatch(/one case took more than 3000 ms/);
		expect(failure?.input).toMatch(/^"/);
	});
});

function told({ group, target, failure }: TargetFigures): string[] {
	if (failure === undefined) return [];
	const { what, input, seed: at, path } = failure;
	return [
		`${group}/${target}: ${what}\n${input.slice(0, 500)}\nnpm run fuzz -- --target ${target} --seed=${at} --path ${path}`,
	];
}
