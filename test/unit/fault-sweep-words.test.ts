import { describe, expect, test } from "vitest";
import { parseSweepWords } from "../guest/fault-sweep/sweep-words.ts";

describe("the words of npm run test:faults", () => {
	test.each([
		["--seed 5", "--rounds"],
		["--rounds 0", "--rounds"],
		["--rounds -5", "--rounds"],
		["--rounds 1.5", "--rounds"],
		["--rounds 1e2", "--rounds"],
		["--rounds= --seed 5", "--rounds"],
		["--rounds 5 --lanes 0", "--lanes"],
		["--rounds 5 --seed 4294967296", "--seed"],
		["--round 3", "--seed"],
		["--block 3", "--seed"],
		["--rounds", "rounds"],
		["--fast", "--fast"],
		["200", "200"],
	])("%j is refused, for it would run nothing, or something else than was meant", (words, why) => {
		const parse = () => parseSweepWords(words.split(" "));
		expect(parse).toThrow(RangeError);
		expect(parse).toThrow(why);
	});

	test("none at all is the table, and --help is neither", () => {
		expect(parseSweepWords([])).toBe("table");
		expect(parseSweepWords(["--rounds", "5", "--help"])).toBe("help");
	});

	test("what is left out is left open", () => {
		expect(parseSweepWords(["--rounds", "200"])).toEqual({ rounds: 200 });
		const all = parseSweepWords("--rounds 7 --seed 0 --resume a.jsonl --lanes 2".split(" "));
		expect(all).toEqual({ rounds: 7, seed: 0, resume: "a.jsonl", lanes: 2 });
		expect(parseSweepWords("--seed 3 --round 0".split(" "))).toEqual({ seed: 3, round: 0 });
	});
});
