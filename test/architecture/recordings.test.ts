import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { widthOf } from "../../command-line/layout.ts";
import { commandOf } from "../fixtures/command-names.ts";
import { root } from "./source-files.ts";

const folder = join(root, "docs/recordings");
const recordings = readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")] as const);

/** What is wrong with a recording, in words. */
function faultsOf(text: string): string[] {
	const [first = "", ...lines] = text.split("\n");
	const words = /^\$ stillpoint (.+)$/.exec(first)?.[1]?.split(" ") ?? [];
	return [
		...(commandOf(words) === undefined ? [`no command: ${first}`] : []),
		...(lines.join("").trim() === "" ? ["nothing was said"] : []),
		...[first, ...lines].filter((line) => widthOf(line) > 80).map((line) => `too wide: ${line}`),
		// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
		...lines.filter((line) => /[\u0000-\u001f\u007f]/.test(line)).map((line) => `not plain text: ${line}`),
	];
}

describe("recordings of the terminal", () => {
	test.each(recordings)("%s begins with a command that exists and fits 80 columns", (_name, text) => {
		expect(faultsOf(text)).toEqual([]);
	});

	test("README shows them as they are", () => {
		const readme = readFileSync(join(root, "README.md"), "utf8");
		const shown = [...readme.matchAll(/^```text\n(\$ stillpoint [\s\S]*?)^```$/gm)].map((match) => match[1]);
		expect(shown.length).toBeGreaterThanOrEqual(2);
		expect(shown.filter((block) => !recordings.some(([, text]) => text === block))).toEqual([]);
	});

	test.each([
		["$ stillpoint stats\nfine\n", "no command: $ stillpoint stats"],
		["$ stillpoint controller\nfine\n", "no command: $ stillpoint controller"],
		["$ stillpoint status --no-such-option\nfine\n", "no command: $ stillpoint status --no-such-option"],
		["$ stillpoint status\n", "nothing was said"],
		[`$ stillpoint status\n${"x".repeat(81)}\n`, `too wide: ${"x".repeat(81)}`],
		["$ stillpoint status\n\u001b[Kfine\n", "not plain text: \u001b[Kfine"],
	])("a bad one is found: %j", (text, fault) => {
		expect(faultsOf(text)).toEqual([fault]);
	});
});
