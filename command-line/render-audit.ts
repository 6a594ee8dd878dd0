import type { AuditEntry } from "../contracts/controller-api.ts";
import { type Page, paragraph, table } from "./layout.ts";
import { humanTime } from "./output.ts";

/** What the eight columns of the table need. */
const leastTableColumns = 140;

export function renderAudit(entries: readonly AuditEntry[], page: Page): string {
	return page.columns < leastTableColumns ? renderBlocks(entries, page) : renderTable(entries, page);
}

/** Every entry a line: when, what, how it ended; below it who, to what, and the details. */
function renderBlocks(entries: readonly AuditEntry[], page: Page): string {
	return entries
		.map(({ sequence, at, actor, role, address, action, target, outcome, details }) => {
			const first = paragraph(`${sequence}  ${humanTime(at)}  ${action}: ${outcome}`, page, 0, "strong");
			const who = `${actor} (${role}) from ${address}${target === undefined ? "" : `, to ${target}`}`;
			const more = Object.entries(details ?? {}).map(([name, value]) => `${name} ${shown(value)}`);
			return [first, ...[who, more.join(", ")].filter(Boolean).map((text) => paragraph(text, page, 6))].join("\n");
		})
		.join("\n");
}

function shown(value: unknown): string {
	return typeof value === "string" ? value : JSON.stringify(value);
}

function renderTable(entries: readonly AuditEntry[], page: Page): string {
	const rows = [
		["number", "at", "who", "from", "did", "to", "outcome", "details"],
		...entries.map((one) => [
			String(one.sequence),
			humanTime(one.at),
			`${one.actor} (${one.role})`,
			one.address,
			one.action,
			one.target ?? "",
			one.outcome,
			one.details === undefined ? "" : JSON.stringify(one.details),
		]),
	];
	return table(rows, { page, head: true });
}
