/**
 * The rules of all that is printed. stdout: one document, for people or with `--json` for programs; stderr: progress
 * and errors for people. With `--json` an error is the document, and stderr stays empty.
 */
import { type StillpointError, worstError } from "../contracts/errors.ts";
import type { CommandContext } from "./command-context.ts";
import { type Page, paint, paragraph } from "./layout.ts";
import { pageOfStderr, pageOfStdout } from "./page.ts";

export { table } from "./layout.ts";

/** One document on stdout: for people, or with `--json` for programs (`schemaVersion` first). */
export function printResult<T extends object>(
	context: CommandContext,
	json: boolean,
	result: T,
	render: (result: T, page: Page) => string,
): void {
	const text = json ? `${JSON.stringify({ schemaVersion: 1, ...result })}\n` : render(result, pageOfStdout(context));
	context.stdout(text.endsWith("\n") || text === "" ? text : `${text}\n`);
}

/** The error on stderr for people; with `--json` as the document on stdout. Returns the exit status. */
export function printError(context: CommandContext, json: boolean, thrown: unknown): number {
	const error = worstError(thrown);
	if (json) context.stdout(`${JSON.stringify({ schemaVersion: 1, error: error.toJSON() })}\n`);
	const status = tellError(context, json, error);
	if (error.code === "internal" && error.cause instanceof Error && !json)
		context.stderr(`${error.cause.stack ?? ""}\n`);
	return status;
}

/**
 * For an error that already stands in a printed document: says it to people on stderr. Returns the exit status.
 * What was cancelled because a signal came ends with the signal's status.
 */
export function tellError(context: CommandContext, json: boolean, error: StillpointError): number {
	if (!json) context.stderr(renderError(error, pageOfStderr(context)));
	const signal = context.signalled();
	if (signal === undefined || (error.code !== "terminated" && error.code !== "cancelled")) return error.traits.exit;
	return signal === "SIGINT" ? 130 : 143;
}

function renderError({ code, message, traits }: StillpointError, page: Page): string {
	const first = paragraph(`stillpoint: ${code}: ${traits.summary}`, page).replace(code, paint(code, "bad", page));
	const lines = [first, paragraph(message, page, 2), paragraph(traits.remedy, page, 2)];
	if (code !== "usage-invalid") lines.push(paragraph(`stillpoint explain ${code}`, page, 2, "dim"));
	return `${lines.join("\n")}\n`;
}

/** 0.4 ms, 12 ms, 3.2 s, 4 min, 3 h, 12 days: three figures are enough for a reader. */
export function humanMs(ms: number | undefined): string {
	if (ms === undefined) return "-";
	if (ms >= 172_800_000) return `${Math.floor(ms / 86_400_000)} days`;
	if (ms >= 7_200_000) return `${Math.floor(ms / 3_600_000)} h`;
	if (ms >= 120_000) return `${Math.floor(ms / 60_000)} min`;
	if (ms >= 10_000) return `${Math.round(ms / 1000)} s`;
	if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
	return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`;
}

/** `2026-11-20 15:07:56Z`: UTC, as in reports and logs, short enough for a column. */
export function humanTime(at: string): string {
	return at.replace(/^(\S{10})T(\d\d:\d\d:\d\d)\S*$/, "$1 $2Z");
}

/** Without the seconds, for lists. */
export function humanMinute(at: string): string {
	return humanTime(at).replace(/:\d\dZ$/, "Z");
}

export function humanBytes(bytes: number): string {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let value = bytes;
	let unit = 0;
	while (value >= 1024 && unit < units.length - 1) {
		value /= 1024;
		unit += 1;
	}
	return `${value >= 10 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
