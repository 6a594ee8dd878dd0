import * as fc from "fast-check";
import { hostileText } from "./hostile-values.ts";

type TextSpoiling = {
	readonly kind:
		| "cut"
		| "insert"
		| "drop"
		| "double-line"
		| "drop-line"
		| "swap-lines"
		| "replace-word"
		| "crlf"
		| "bom"
		| "repeat";
	readonly at: number;
	readonly size: number;
	readonly text: string;
};

export const textSpoilings: fc.Arbitrary<TextSpoiling[]> = fc.array(
	fc.record({
		kind: fc.constantFrom<TextSpoiling["kind"][]>(
			"cut",
			"insert",
			"drop",
			"double-line",
			"drop-line",
			"swap-lines",
			"replace-word",
			"crlf",
			"bom",
			"repeat",
		),
		at: fc.nat(),
		size: fc.nat({ max: 64 }),
		text: hostileText,
	}),
	{ minLength: 1, maxLength: 4 },
);

/** A real text with a few faults in it; now and then one that is nothing like it. @param words between which words lie */
export function mutatedText(samples: readonly string[], words: RegExp = /([\s]+)/): fc.Arbitrary<string> {
	return fc.oneof(
		{
			weight: 12,
			arbitrary: fc
				.tuple(fc.constantFrom(...samples), fc.oneof(fc.constant([]), textSpoilings, textSpoilings))
				.map(([text, spoilings]) => spoilText(text, spoilings, words)),
		},
		{ weight: 1, arbitrary: hostileText },
		{ weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 200 }) },
	);
}

const longestText = 300_000;

export function spoilText(text: string, spoilings: readonly TextSpoiling[], words: RegExp = /([\s]+)/): string {
	return spoilings.reduce((was, spoiling) => spoilOnce(was, spoiling, words).slice(0, longestText), text);
}

function spoilOnce(text: string, { kind, at, size, text: put }: TextSpoiling, words: RegExp): string {
	const place = at % (text.length + 1);
	const lines = text.split("\n");
	const line = at % lines.length;
	switch (kind) {
		case "cut":
			return text.slice(0, place);
		case "insert":
			return text.slice(0, place) + put + text.slice(place);
		case "drop":
			return text.slice(0, place) + text.slice(place + size);
		case "double-line":
			return lines.toSpliced(line, 0, ...Array.from({ length: (size % 4) + 1 }, () => lines[line] ?? "")).join("\n");
		case "drop-line":
			return lines.toSpliced(line, 1).join("\n");
		case "swap-lines":
			return lines.toSpliced(size % lines.length, 1, lines[line] ?? "").join("\n");
		case "replace-word": {
			const parts = (lines[line] ?? "").split(words);
			return lines.with(line, parts.with(size % parts.length, put).join("")).join("\n");
		}
		case "crlf":
			return lines.join("\r\n");
		case "bom":
			return `\ufeff${text}`;
		case "repeat":
			return text.repeat(Math.max(1, Math.min(size, Math.floor(longestText / Math.max(1, text.length)))));
	}
}
