/** The words behind `npm run bench --`. Pure. */
import { parseArgs } from "node:util";
import type { ImagesOn } from "./scratch-folders.ts";

export const benches = ["freeze", "order-to-frozen", "idle", "soak", "databases"] as const;
export type Bench = (typeof benches)[number];

export const benchUsage = `usage: npm run bench -- ${benches.join(" | ")} [--quick] [--json]

  --quick          fewer rounds, seconds or cases
  --json           one document instead of a table

of freeze alone:
  --case NAME      only cases whose names begin so; may be repeated
  --rounds N       of each case, at least 5
  --seed S         the same order of turns again
  --images PLACE   memory or disk
  --floor          the kernel's floor with --quick, too

What each measures, and what it prints: docs/measurements.md
`;

export type BenchWords = {
	readonly bench: Bench;
	readonly json: boolean;
	readonly quick: boolean;
	/** The rest: `freeze` only. */
	readonly rounds?: number;
	readonly seed?: number;
	readonly imagesOn?: ImagesOn;
	/** Names of cases, or their beginnings. */
	readonly cases?: readonly string[];
	readonly withFloor: boolean;
};

/** Fewer are no median. */
const leastRounds = 5;
const mostRounds = 100;
const freezeOnly = ["rounds", "seed", "images", "case", "floor"] as const;

/** @throws RangeError saying what is wrong, for people. */
export function parseBenchWords(words: readonly string[]): BenchWords {
	const { values, positionals } = parseWords(words);
	const [name, ...others] = positionals;
	const bench = benches.find((one) => one === name);
	if (bench === undefined) throw new RangeError(`say which: ${benches.join(", ")}`);
	if (others.length > 0) throw new RangeError(`one at a time: ${others.join(" ")}`);
	const foreign = freezeOnly.find((option) => values[option] !== undefined);
	if (bench !== "freeze" && foreign !== undefined) throw new RangeError(`--${foreign} is an option of freeze`);
	const { images } = values;
	if (images !== undefined && images !== "memory" && images !== "disk") {
		throw new RangeError("--images is memory or disk");
	}
	return {
		bench,
		json: values.json === true,
		quick: values.quick === true,
		withFloor: values.floor === true,
		...(values.rounds === undefined ? {} : { rounds: count("rounds", values.rounds, leastRounds, mostRounds) }),
		...(values.seed === undefined ? {} : { seed: count("seed", values.seed, 0, 2 ** 32 - 1) }),
		...(images === undefined ? {} : { imagesOn: images }),
		...(values.case === undefined ? {} : { cases: values.case }),
	};
}

function parseWords(words: readonly string[]) {
	try {
		return parseArgs({
			args: [...words],
			allowPositionals: true,
			options: {
				json: { type: "boolean" },
				quick: { type: "boolean" },
				rounds: { type: "string" },
				seed: { type: "string" },
				images: { type: "string" },
				case: { type: "string", multiple: true },
				floor: { type: "boolean" },
			},
		});
	} catch (error) {
		throw new RangeError((error as Error).message, { cause: error });
	}
}

function count(name: string, text: string, least: number, most: number): number {
	const value = Number(text);
	if (/^\d+$/.test(text) && value >= least && value <= most) return value;
	throw new RangeError(`--${name} is a whole number from ${least} to ${most}`);
}
