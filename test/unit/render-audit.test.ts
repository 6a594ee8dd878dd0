import { expect, test } from "vitest";
import { widthOf } from "../../command-line/layout.ts";
import { renderAudit } from "../../command-line/render-audit.ts";
import type { AuditEntry } from "../../contracts/controller-api.ts";

const entry: AuditEntry = {
	sequence: 5,
	at: "2026-11-20T19:02:36.776Z",
	actor: "operator",
	role: "operator",
	address: "127.0.0.1",
	action: "snapshot.order",
	target: "job-20261120190233-ab155b0c",
	outcome: "ok",
	details: { agentId: "agent-58ae10025277ee18", disks: ["vda", "vdb"] },
};

test("an audit entry on a terminal is lines that can be read, with nothing cut into columns of eight places", () => {
	const lines = renderAudit([entry], { columns: 80, hasColor: false }).split("\n");
	expect(lines).toEqual([
		"5  2026-11-20 19:02:36Z  snapshot.order: ok",
		"      operator (operator) from 127.0.0.1, to job-20261120190233-ab155b0c",
		'      agentId agent-58ae10025277ee18, disks ["vda","vdb"]',
	]);
	expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(80);
});

test("piped it is a line", () => {
	const lines = renderAudit([entry, entry], { columns: Number.POSITIVE_INFINITY, hasColor: false }).split("\n");
	expect([lines.length, lines[0]?.startsWith("number")]).toEqual([3, true]);
});
