import { describe, expect, test } from "vitest";
import { benches, benchUsage, parseBenchWords } from "../../bench/bench-words.ts";
import { allMountPoints, freezeCases } from "../../bench/freeze/cases.ts";
import { chooseCases } from "../../bench/freeze/choose-cases.ts";

describe("the words of npm run bench", () => {
	test.each([
		["", "say which: freeze, order-to-frozen, idle, soak, databases"],
		["nothing", "say which"],
		["freeze idle", "one at a time: idle"],
		["freeze --rounds 4", "--rounds is a whole number from 5 to 100"],
		["freeze --rounds 5.5", "--rounds is"],
		["freeze --rounds 1e1", "--rounds is"],
		["freeze --rounds=-7", "--rounds is"],
		["freeze --seed x", "--seed is a whole number"],
		["freeze --seed 4294967296", "--seed is a whole number"],
		["freeze --images /tmp", "--images is memory or disk"],
		["freeze --rounds", "rounds"],
		["freeze --fast", "--fast"],
		["idle --rounds 5", "--rounds is an option of freeze"],
		["soak --floor", "--floor is an option of freeze"],
	])("%j is refused", (words, why) => {
		const parse = () => parseBenchWords(words.split(" ").filter(Boolean));
		expect(parse).toThrow(RangeError);
		expect(parse).toThrow(why);
	});

	test("the usage names every option, and every measurement", () => {
		for (const bench of benches) expect(benchUsage).toContain(bench);
		for (const option of benchUsage.match(/--[a-z]+/g) ?? []) {
			const value = { "--case": ["1"], "--rounds": ["5"], "--seed": ["1"], "--images": ["disk"] }[option] ?? [];
			expect(() => parseBenchWords(["freeze", option, ...value])).not.toThrow();
		}
	});

	test("what is left out is left open", () => {
		expect(parseBenchWords(["idle"])).toEqual({ bench: "idle", json: false, quick: false, withFloor: false });
		const words = "freeze --quick --json --seed 0 --rounds 5 --images disk --case 12 --case 4 --floor".split(" ");
		expect(parseBenchWords(words)).toEqual({
			bench: "freeze",
			json: true,
			quick: true,
			withFloor: true,
			seed: 0,
			rounds: 5,
			imagesOn: "disk",
			cases: ["12", "4"],
		});
	});
});

describe("the cases of the freeze", () => {
	test("are all of them, those of --quick, or those whose names begin so", () => {
		expect(chooseCases(undefined, false)).toEqual(freezeCases);
		expect(chooseCases(undefined, true).length).toBeGreaterThan(0);
		expect(chooseCases(undefined, true).length).toBeLessThan(freezeCases.length);
		expect(chooseCases(["32", "4 idle"], true).map(({ name }) => name)).toEqual(["4 idle ext4", "32 idle ext4"]);
		expect(() => chooseCases(["12", "13"], false)).toThrow('no case "13"');
	});

	test("have names of their own, and lean only on cases that come before", () => {
		const names = freezeCases.map(({ name }) => name);
		expect(new Set(names).size).toBe(names.length);
		const later = freezeCases.filter(
			({ goalTimes }, index) => goalTimes !== undefined && !names.slice(0, index).includes(goalTimes.caseName),
		);
		expect(later).toEqual([]);
	});

	test("name to the agent every folder that a file system may be mounted in", () => {
		const points = allMountPoints("/x");
		expect(points).toContain("/x/fs-32");
		expect(points).toContain("/x/fs-01/fs-02");
		expect(points).not.toContain("/x/fs-33");
		expect(points.every((point) => point.startsWith("/x/"))).toBe(true);
	});
});
