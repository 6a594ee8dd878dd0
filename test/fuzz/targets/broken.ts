import * as fc from "fast-check";
import { type FuzzTarget, fuzzTarget } from "../fuzz-target.ts";
import { mutatedJson } from "../inputs/mutated-json.ts";
import { mutatedText } from "../inputs/mutated-text.ts";
import { mountInfos } from "../samples/texts.ts";

/** Parsers that are wrong in each way that the fuzzer must find: its negative control. */
export function brokenTargets(): FuzzTarget[] {
	const held: Buffer[] = [];
	return [
		fuzzTarget({
			name: "crashes",
			parser: "a TypeError for a line without fields",
			inputs: mutatedText(mountInfos),
			run: (text) => text.split("\n").map((line) => (line.split(" ")[4] as string).length),
		}),
		fuzzTarget({
			name: "rejects-later",
			parser: "a rejection that nobody waits for",
			inputs: mutatedText(mountInfos),
			run: (text) => void (text.includes("ext4") ? undefined : Promise.reject(new TypeError("nobody waits"))),
		}),
		fuzzTarget({
			name: "hangs",
			parser: "a loop without an end for an unknown type",
			inputs: mutatedJson(fc.constantFrom({ type: "a" }, { type: "b" })),
			run: (text) => {
				let at = 0;
				while (!text.startsWith('{"type":"', 0) && at >= 0) at = (at + 1) % 1_000;
			},
		}),
		fuzzTarget({
			name: "never-answers",
			parser: "a promise that nobody keeps",
			inputs: mutatedText(mountInfos),
			run: (text) => (text.endsWith("\n") ? undefined : new Promise(() => undefined)),
		}),
		fuzzTarget({
			name: "is-slow",
			parser: "an expression that tries every way to cut a text",
			inputs: fc.nat({ max: 29 }).map((length) => `${"a".repeat(length)}!`),
			run: (text) => /^(a+)+$/.test(text),
		}),
		fuzzTarget({
			name: "believes-a-length",
			parser: "a buffer as long as the input says",
			inputs: fc.integer({ min: 0, max: 0x7fff_ffff }),
			run: (length) => held.splice(0, 1, Buffer.alloc(length)).length,
		}),
		fuzzTarget({
			name: "hoards",
			parser: "objects until there is no room for more",
			inputs: mutatedText(mountInfos),
			run: (text) => {
				const all: string[][] = [];
				while (!text.endsWith("\n")) all.push(Array(100_000).fill(`${text}${all.length}`));
			},
		}),
		fuzzTarget({
			name: "wrong-answer",
			parser: "a round trip that loses a character",
			inputs: fc.string({ unit: "binary" }),
			run: (text) => {
				if (Buffer.from(text, "latin1").toString("latin1") !== text) throw new Error("another text came back");
			},
		}),
	];
}
