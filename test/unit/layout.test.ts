import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import { fields, paint, paragraph, plainPage, printable, table, widthOf, wrap } from "../../command-line/layout.ts";
import { humanMs, humanTime } from "../../command-line/output.ts";
import { pageOfStdout } from "../../command-line/page.ts";

const page = (columns: number, hasColor = false) => ({ columns, hasColor });

describe("what comes from outside", () => {
	test.each([
		["an escape that clears the screen", "a\u001b[2Jb", "a\\u{1b}[2Jb"],
		["a C1 control", "a\u009bb", "a\\u{9b}b"],
		["a text that runs from right to left", "a\u202eb", "a\\u{202e}b"],
		["half of a pair", "a\ud800b", "a\\u{d800}b"],
		["a line break and a tab", "a\nb\tc", "a b c"],
		["a carriage return and a bell", "a\r\u0007", "a\\u{0d}\\u{07}"],
		["what is harmless", "/srv/übung 日本", "/srv/übung 日本"],
	])("%s is shown and not obeyed", (_what, text, shown) => {
		expect(printable(text)).toBe(shown);
		for (const line of [table([[text, "x"]]), fields([["k", text]], plainPage), paragraph(text, plainPage)])
			expect(line).toContain(shown);
	});
});

describe("lines", () => {
	test.each([10, 17, 40])("are never wider than %i places, and lose nothing", (width) => {
		const text =
			"the file system /srv/a-very-long-mount-point-that-has-no-space/日本語のフォルダ was frozen by another";
		const lines = wrap(text, width);
		expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(width);
		expect(lines.join("").replaceAll(" ", "")).toBe(text.replaceAll(" ", ""));
	});

	test("keep a number and its unit together", () => {
		const text = "freeze 10 ms, held 116 ms, thaw 1.5 s; 12 MiB of 3 disks (2 min)";
		for (let width = 8; width < 60; width += 1)
			expect(wrap(text, width).filter((line) => /^(?:ms|s|MiB|min)\b/.test(line))).toEqual([]);
		expect(wrap("held 116 ms", 9)).toEqual(["held", "116 ms"]);
		expect(wrap("in 3 seconds and more", 5)[0]).toBe("in 3");
	});

	test("that are piped are whole: a row is a line", () => {
		const rows = [["x".repeat(300), "y".repeat(300)]];
		expect(table(rows).split("\n")).toHaveLength(1);
	});

	test("of a table fit, ids are not broken, and colours do not count", () => {
		const id = "0f8fad5b-d9cb-469f-a165-70867728950e";
		const rows = [
			["id", "what"],
			[id, { text: "a long reason ".repeat(20), tone: "bad" as const }],
		];
		for (const hasColor of [false, true]) {
			const text = table(rows, { page: page(80, hasColor), whole: [0], indent: 2, head: true });
			expect(text.includes("\u001b[")).toBe(hasColor);
			const lines = stripVTControlCharacters(text).split("\n");
			expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(80);
			expect(lines[1]).toContain(id);
			expect(lines.length).toBeGreaterThan(5);
		}
	});
});

describe("colours", () => {
	const of = (environment: Record<string, string>, isTerminal: boolean) =>
		pageOfStdout({ environment, isTerminal, columns: 100 }).hasColor;
	test.each<[string, Record<string, string>, boolean, boolean]>([
		["on a terminal", {}, true, true],
		["not when piped", {}, false, false],
		["not with NO_COLOR", { NO_COLOR: "1" }, true, false],
		["with an empty NO_COLOR, which says nothing", { NO_COLOR: "" }, true, true],
		["piped with CLICOLOR_FORCE", { CLICOLOR_FORCE: "1" }, false, true],
		["not piped with CLICOLOR_FORCE=0", { CLICOLOR_FORCE: "0" }, false, false],
		["not with both: NO_COLOR ends all doubt", { CLICOLOR_FORCE: "1", NO_COLOR: "yes" }, true, false],
		["not on a dumb terminal", { TERM: "dumb" }, true, false],
	])("are there %s", (_what, environment, isTerminal, expected) => {
		expect(of(environment, isTerminal)).toBe(expected);
		expect(paint("x", "bad", { columns: 80, hasColor: expected })).toBe(expected ? "\u001b[31mx\u001b[39m" : "x");
	});

	test.each([
		[true, 100, undefined, 100],
		[true, undefined, undefined, 80],
		[true, 100, "60", 100],
		[false, undefined, "60", 60],
		[false, undefined, "wide", Number.POSITIVE_INFINITY],
		[false, undefined, undefined, Number.POSITIVE_INFINITY],
	])("width: terminal %s of %s, COLUMNS %s gives %s", (isTerminal, columns, asked, expected) => {
		const environment = asked === undefined ? {} : { COLUMNS: asked };
		expect(pageOfStdout({ environment, isTerminal, columns }).columns).toBe(expected);
	});
});

test("times and spans are short", () => {
	expect([0.4, 12, 3_200, 42_000, 600_000, 46_800_000, 400_000_000].map(humanMs)).toEqual([
		"0.4 ms",
		"12 ms",
		"3.2 s",
		"42 s",
		"10 min",
		"13 h",
		"4 days",
	]);
	expect(humanTime("2026-11-20T15:07:56.123Z")).toBe("2026-11-20 15:07:56Z");
});
