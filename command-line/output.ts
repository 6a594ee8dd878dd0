import { type StillpointError, worstError } from "../contracts/errors.ts";
import type { CommandContext } from "./command-context.ts";

/** One document on stdout: for people, or with `--json` for programs (`schemaVersion` first). */
export function printResult<T extends object>(
	context: CommandContext,
	json: boolean,
	result: T,
	render: (result: T) => string,
): void {
	const text = json ? `${JSON.stringify({ schemaVersion: 1, ...result })}\n` : render(result);
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
	if (!json)
		context.stderr(
			`stillpoint: ${error.code}: ${error.traits.summary}\n  ${error.message}\n  ${error.traits.remedy}\n`,
		);
	const signal = context.signalled();
	if (signal === undefined || (error.code !== "terminated" && error.code !== "cancelled")) return error.traits.exit;
	return signal === "SIGINT" ? 130 : 143;
}

/** Columns padded to their widest cell; the last one is left as it is. */
export function table(rows: readonly (readonly string[])[]): string {
	const widths: number[] = [];
	for (const row of rows)
		row.forEach((cell, column) => {
			widths[column] = Math.max(widths[column] ?? 0, cell.length);
		});
	return rows
		.map((row) =>
			row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join("  "),
		)
		.join("\n");
}

/** 0.4 ms, 12 ms, 3.2 s: three figures are enough for a reader. */
export function humanMs(ms: number | undefined): string {
	if (ms === undefined) return "-";
	if (ms >= 10_000) return `${Math.round(ms / 1000)} s`;
	if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
	return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`;
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
