import * as fc from "fast-check";

/** Texts that parsers stumble over; the long ones are as long as a limit that somebody may have forgotten. */
export const hostileText: fc.Arbitrary<string> = fc.oneof(
	{ weight: 4, arbitrary: fc.constantFrom(...shortTexts()) },
	{ weight: 3, arbitrary: fc.string({ unit: "binary", maxLength: 24 }) },
	{ weight: 2, arbitrary: fc.string({ unit: "grapheme-ascii", maxLength: 24 }) },
	{
		weight: 2,
		arbitrary: fc.tuple(fc.constantFrom("a", "/", "\\", "9", " ", "\u{1f600}", "%"), longLength()).map(repeat),
	},
	{ weight: 1, arbitrary: fc.constant("\ud800") },
);

function shortTexts(): string[] {
	const empty = ["", " ", "\t", "\n", "\r\n", "\0", "\ufeff", "\u2028", "\u202e", "\ud800", "\udc00\ud800"];
	const numbers = ["0", "-0", "-1", "1e999", "9007199254740993", "0x10", "1_0", "٣", "NaN", "Infinity", "1.5", "+1"];
	const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "length", "true", "null", "undefined"];
	const paths = ["/", "//", "..", "../../etc/passwd", "/proc/self/root", "C:\\x", "a/../b", "/a\0b"];
	const escapes = [
		"\\040",
		"\\",
		"\\9",
		"\\777",
		"%",
		"%zz",
		"$(id)",
		"`id`",
		"\u001b[2J",
		'"',
		"'",
		"=",
		":",
		"[",
		"#",
	];
	const times = [
		"2026-01-01T00:00:00Z",
		"2026-02-30T00:00:00Z",
		"+275760-09-13T00:00:00.001Z",
		"-000001-01-01T00:00:00Z",
	];
	return [...empty, ...numbers, ...names, ...paths, ...escapes, ...times];
}

function longLength(): fc.Arbitrary<number> {
	return fc.constantFrom(64, 65, 107, 108, 255, 256, 1_000, 4_096, 4_097, 65_536, 200_000);
}

function repeat([what, times]: [string, number]): string {
	return what.repeat(times);
}

/** Values of JSON of every type, for a place where another type belongs. Deeper ones exist as text only. */
export const hostileValue: fc.Arbitrary<unknown> = fc.oneof(
	{
		weight: 4,
		arbitrary: fc.constantFrom<unknown>(null, true, false, 0, -0, 1, -1, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, 1e308),
	},
	{ weight: 4, arbitrary: hostileText },
	{ weight: 2, arbitrary: fc.jsonValue({ depthSize: "small" }) },
	{
		weight: 2,
		arbitrary: fc.constantFrom<unknown>([], {}, [[]], [null], { length: 3 }, { toJSON: 1 }, { toString: 1 }),
	},
	{ weight: 1, arbitrary: fc.constantFrom(5, 20, 60, 200).map(nested) },
	{
		weight: 1,
		arbitrary: fc.constantFrom(20, 501, 5_000).map((length) => Array.from({ length }, (_, index) => index)),
	},
	{ weight: 1, arbitrary: fc.constantFrom(20, 501, 2_000).map(manyKeys) },
);

function nested(depth: number): unknown {
	let value: unknown = [];
	for (let level = 0; level < depth; level += 1) value = level % 2 === 0 ? [value] : { a: value };
	return value;
}

function manyKeys(count: number): unknown {
	return Object.fromEntries(Array.from({ length: count }, (_, index) => [`key${index}`, index]));
}
