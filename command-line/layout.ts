/** Text in columns for people: pure, and the one place where what comes from outside meets a terminal. */
import { styleText } from "node:util";

/** What a text says about the machine, and not which colour it has. */
export type Tone = "good" | "warn" | "bad" | "dim" | "strong";
export type Cell = string | { readonly text: string; readonly tone: Tone };

/** Where it is printed: `columns` is Infinity when it is piped, so that a row of a table is a line. */
export type Page = { readonly columns: number; readonly hasColor: boolean };

export const plainPage: Page = { columns: Number.POSITIVE_INFINITY, hasColor: false };

const formats = { good: "green", warn: "yellow", bad: "red", dim: "dim", strong: "bold" } as const;
/** A column is not made narrower than this to fit. */
const leastWidth = 8;

export function paint(text: string, tone: Tone | undefined, page: Page): string {
	if (tone === undefined || !page.hasColor || text === "") return text;
	return styleText(formats[tone], text, { validateStream: false });
}

/** Names and messages may hold anything: what would steer a terminal, or break a line, is shown and not obeyed. */
export function printable(text: string): string {
	return text
		.replaceAll(/[\n\t]/g, " ")
		.replaceAll(
			/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu,
			(one) => `\\u{${(one.codePointAt(0) ?? 0).toString(16).padStart(2, "0")}}`,
		);
}

/** Places that a text takes on a terminal. */
export function widthOf(text: string): number {
	let width = 0;
	for (const one of text) width += /\p{M}/u.test(one) ? 0 : wide.test(one) ? 2 : 1;
	return width;
}
const wide =
	/[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u;

/** Lines of at most `width` places, broken between words; a longer word after one of `/-_,.:`, or else anywhere. */
export function wrap(text: string, width: number): string[] {
	if (widthOf(text) <= width) return [text];
	const lines: string[] = [];
	let line = "";
	for (const word of text.replaceAll(beforeUnit, keptBlank).split(/ +/)) {
		const longer = line === "" ? word : `${line} ${word}`;
		if (widthOf(longer) <= width) {
			line = longer;
			continue;
		}
		if (line !== "") lines.push(line);
		const pieces = breakWord(word, width);
		line = pieces.pop() ?? "";
		lines.push(...pieces);
	}
	const all = line === "" && lines.length > 0 ? lines : [...lines, line];
	return all.map((one) => one.replaceAll(keptBlank, " "));
}
/** A number and its unit are one word: "116 / ms" is no time. */
const beforeUnit = /(?<=(?:^|[ (])[\d.]+) (?=(?:B|KiB|MiB|GiB|TiB|ms|s|min|h|days)(?![A-Za-z]))/g;
const keptBlank = "\u{f8ff}";

function breakWord(word: string, width: number): string[] {
	const pieces: string[] = [];
	let rest = [...word];
	while (widthOf(rest.join("")) > width) {
		let end = 1;
		while (end < rest.length && widthOf(rest.slice(0, end + 1).join("")) <= width) end += 1;
		const soft = rest.slice(0, end).findLastIndex((one) => "/-_,.:".includes(one));
		const cut = soft >= end / 2 ? soft + 1 : end;
		pieces.push(rest.slice(0, cut).join(""));
		rest = rest.slice(cut);
	}
	return [...pieces, rest.join("")];
}

export type TableOptions = {
	readonly page?: Page;
	readonly indent?: number;
	/** Columns that are never broken: ids and times that a reader copies. */
	readonly whole?: readonly number[];
	/** Whether the first row is a head. */
	readonly head?: boolean;
};

/** Columns padded to their widest cell; on a terminal that is too narrow the widest ones are broken into lines. */
export function table(rows: readonly (readonly Cell[])[], options: TableOptions = {}): string {
	const { page = plainPage, indent = 0, whole = [], head = false } = options;
	const texts = rows.map((row) => row.map((cell) => printable(textOf(cell))));
	const widths = fitColumns(texts, page.columns - indent, whole);
	const lines = rows.flatMap((row, index) => {
		const cells = (texts[index] ?? []).map((text, column) => wrap(text, widths[column] ?? 1));
		const height = Math.max(1, ...cells.map((one) => one.length));
		return Array.from({ length: height }, (_, line) =>
			cells
				.map((one, column) => {
					const text = one[line] ?? "";
					const tone = head && index === 0 ? "dim" : toneOf(row[column]);
					return paint(text, tone, page) + " ".repeat(Math.max(0, (widths[column] ?? 0) - widthOf(text)));
				})
				.join("  ")
				.trimEnd(),
		);
	});
	return lines.map((line) => (line === "" ? "" : " ".repeat(indent) + line)).join("\n");
}

function fitColumns(texts: readonly (readonly string[])[], columns: number, whole: readonly number[]): number[] {
	const widths: number[] = [];
	for (const row of texts)
		row.forEach((text, column) => {
			widths[column] = Math.max(widths[column] ?? 0, widthOf(text));
		});
	const total = () => widths.reduce((sum, one) => sum + one + 2, -2);
	while (total() > columns) {
		const flexible = widths.map((width, column) => (whole.includes(column) ? 0 : width));
		const widest = flexible.indexOf(Math.max(...flexible));
		const width = widths[widest] ?? 0;
		if ((flexible[widest] ?? 0) <= leastWidth) break;
		const next = Math.max(leastWidth, ...flexible.filter((_, column) => column !== widest));
		widths[widest] = Math.max(leastWidth, width - total() + columns, Math.min(next, width - 1));
	}
	return widths;
}

/** `label  text` lines; what is longer goes on below its beginning. */
export function fields(rows: readonly (readonly [string, Cell])[], page: Page, labelWidth = 10, indent = 2): string {
	const start = indent + labelWidth + 2;
	return rows
		.flatMap(([label, cell]) => {
			const lines = wrap(printable(textOf(cell)), Math.max(20, page.columns - start));
			return lines.map((line, index) => {
				const before = index === 0 ? " ".repeat(indent) + paint(label.padEnd(labelWidth), "dim", page) : "";
				return `${index === 0 ? `${before}  ` : " ".repeat(start)}${paint(line, toneOf(cell), page)}`.trimEnd();
			});
		})
		.join("\n");
}

/** A paragraph below a margin. */
export function paragraph(text: string, page: Page, indent = 0, tone?: Tone): string {
	return wrap(printable(text), Math.max(20, page.columns - indent))
		.map((line) => " ".repeat(indent) + paint(line, tone, page))
		.join("\n");
}

function textOf(cell: Cell | undefined): string {
	return typeof cell === "object" ? cell.text : (cell ?? "");
}

function toneOf(cell: Cell | undefined): Tone | undefined {
	return typeof cell === "object" ? cell.tone : undefined;
}
