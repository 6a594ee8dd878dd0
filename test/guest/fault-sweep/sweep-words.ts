/** The words behind `npm run test:faults --`. Pure. */
import { parseArgs } from "node:util";

export const sweepUsage = `usage: npm run test:faults [-- --rounds N ...]

Without words the table of faults: every process, in every phase of a job. With --rounds the sweep:

  --rounds N      so many in all; those of an earlier run of the same seed count
  --seed S        decides every round; default: that of the newest sweep here while rounds of it are left, or a new one
  --round K       with --seed: only this one, again
  --block B       with --seed: only those on this machine, again
  --resume FILE   where the sweep keeps what is done; default: a file of the seed below node_modules/.cache
  --lanes L       machines side by side
`;

export type SweepWords = {
	readonly rounds?: number;
	readonly seed?: number;
	readonly round?: number;
	readonly block?: number;
	readonly resume?: string;
	readonly lanes?: number;
};

const most = 1_000_000;

/** @throws RangeError saying what is wrong, for people. */
export function parseSweepWords(words: readonly string[]): SweepWords | "table" | "help" {
	if (words.length === 0) return "table";
	const { help, ...values } = parseWords(words);
	if (help === true) return "help";
	const isReplay = values.round !== undefined || values.block !== undefined;
	if (isReplay && values.seed === undefined) throw new RangeError("--round and --block want --seed");
	if (!isReplay && values.rounds === undefined) throw new RangeError("say how many: --rounds N");
	return {
		...count("rounds", values.rounds, 1, most),
		...count("seed", values.seed, 0, 2 ** 32 - 1),
		...count("round", values.round, 0, most),
		...count("block", values.block, 0, most),
		...count("lanes", values.lanes, 1, 1_000),
		...(values.resume === undefined ? {} : { resume: values.resume }),
	};
}

function parseWords(words: readonly string[]) {
	const text = { type: "string" } as const;
	const options = { rounds: text, seed: text, round: text, block: text, resume: text, lanes: text };
	try {
		return parseArgs({ args: [...words], options: { ...options, help: { type: "boolean" } } }).values;
	} catch (error) {
		throw new RangeError((error as Error).message, { cause: error });
	}
}

function count(name: keyof SweepWords, text: string | undefined, least: number, greatest: number): SweepWords {
	if (text === undefined) return {};
	const value = Number(text);
	if (/^\d+$/.test(text) && value >= least && value <= greatest) return { [name]: value };
	throw new RangeError(`--${name} is a whole number from ${least} to ${greatest}`);
}
