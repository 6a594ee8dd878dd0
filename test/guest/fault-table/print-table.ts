import { type Cell, components, faults, nameOf, phases, whyMissing } from "./cells.ts";
import type { CellOutcome } from "./run-cell.ts";

/** The table as it was run: longest write, error, level, and when the job was over. */
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
		const words = `${Math.round(longestWriteMs)} ms, ${code}, ${level}, ${(endedAfterMs / 1000).toFixed(1)} s`;
		return one.faults.length === 0 ? words : `WRONG ${words}`;
	};
	const rows = components.flatMap((component) =>
		phases.map((phase) => [component, phase, ...faults.map((fault) => show({ component, fault, phase }))]),
	);
	const head = ["component", "phase", ...faults];
	const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => (row[column] ?? "").length)));
	const line = (row: readonly string[]) => row.map((text, column) => text.padEnd(widths[column] ?? 0)).join(" | ");
	return [
		"Each cell: longest write, error, level achieved, until the job was over and its report delivered.",
		line(head),
		...rows.map(line),
		...reasons.map((reason, index) => `(${index + 1}) ${reason}`),
	].join("\n");
}
