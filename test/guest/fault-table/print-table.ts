import { type Cell, components, faults, holdLimitMs, nameOf, phases, promiseMs, whyMissing } from "./cells.ts";
import type { CellOutcome } from "./run-cell.ts";

/** The table as it was run, with a legend. */
export function formatTable(outcomes: readonly CellOutcome[]): string {
	const found = new Map(outcomes.map((one) => [nameOf(one.cell), one]));
	const reasons: string[] = [];
	const show = (cell: Cell) => {
		const one = found.get(nameOf(cell));
		const why = whyMissing(cell);
		if (why !== undefined) {
			if (!reasons.includes(why)) reasons.push(why);
			return `- (${reasons.indexOf(why) + 1})`;
		}
		if (one === undefined) return "NOT RUN";
		const { longestWriteMs, code, level, endedAfterMs } = one;
		const outcome = code === undefined ? `${level ?? "no report"}` : `${level ?? "no report"}, ${code}`;
		const words = `${outcome}, ${(endedAfterMs / 1000).toFixed(1)} s, ${Math.round(longestWriteMs)} ms`;
		return one.faults.length === 0 ? words : `WRONG ${words}`;
	};
	const rows = components.flatMap((component) =>
		phases.map((phase) => [component, phase, ...faults.map((fault) => show({ component, fault, phase }))]),
	);
	const head = ["component", "phase", ...faults];
	const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => (row[column] ?? "").length)));
	const line = (row: readonly string[]) => row.map((text, column) => text.padEnd(widths[column] ?? 0)).join(" | ");
	return [
		line(head),
		...rows.map(line),
		"Each cell: level achieved, error (none: the job is done), time from the fault until the job was over and its report",
		`delivered, and the longest that one write took, which may be ${holdLimitMs + promiseMs} ms.`,
		"no report: the agent never began the job.",
		...reasons.map((reason, index) => `- (${index + 1}) there is no such cell: ${reason}`),
	].join("\n");
}
