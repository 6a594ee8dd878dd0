import { expect, test } from "vitest";
import { plainPage } from "../../command-line/layout.ts";
import { renderStatus } from "../../command-line/render-status.ts";
import { StillpointError } from "../../contracts/errors.ts";
import type { AgentStatus } from "../../contracts/local-calls.ts";

function statusOf(link: Partial<AgentStatus["link"]>): AgentStatus {
	return {
		schemaVersion: 1,
		version: "1",
		pid: 1,
		hostname: "h",
		startedAt: "2026-01-01T00:00:00.000Z",
		link: { enrolled: true, connected: true, unsentReports: 0, controller: "https://c", agentId: "agent-1", ...link },
		extensions: [],
		frozen: [],
		lastJobs: [],
		protection: { state: "protected", why: [], wanted: { level: "file-system", maxAgeMs: null } },
	};
}

/** The lines of the link, without their margin. */
function linkLines(link: Partial<AgentStatus["link"]>): string[] {
	const lines = renderStatus(statusOf(link), plainPage, 0).split("\n");
	const [from, to] = ["  link ", "  extensions "].map((start) => lines.findIndex((line) => line.startsWith(start)));
	return lines.slice(from, to).map((line) => line.slice("  link        ".length));
}

function guardLine(guard: AgentStatus["guard"]): string | undefined {
	const lines = renderStatus({ ...statusOf({}), ...(guard === undefined ? {} : { guard }) }, plainPage, 0).split("\n");
	return lines.find((line) => line.startsWith("  guard "));
}

test("status says where the agent is linked and how many reports wait", () => {
	expect(linkLines({})).toEqual(["connected to https://c as agent-1"]);
	expect(linkLines({ unsentReports: 2 })).toEqual(["connected to https://c as agent-1, 2 reports to send"]);
	expect(linkLines({ enrolled: false, connected: false })).toEqual(["not enrolled: works for local orders only"]);
});

test("status says why there is no link, what helps, what is held back and how far the clocks differ", () => {
	const error = new StillpointError("certificate-revoked", "agent-1 was revoked").toJSON();
	const lines = linkLines({ connected: false, error, heldBackReports: 3, clockDifferenceMs: -600_400 });
	expect(lines).toEqual([
		"NOT connected to https://c as agent-1",
		"certificate-revoked: agent-1 was revoked (stillpoint explain certificate-revoked)",
		"3 reports are held back: another controller ordered their jobs",
		"the controller's clock differs by -600 s",
	]);
});

test("status says who guards, and that nobody does", () => {
	const since = "2026-01-01T00:00:00.000Z";
	expect(guardLine({ pid: 7, since, stopped: false })).toBe("  guard       pid 7, since 2026-01-01 00:00:00Z");
	expect(guardLine({ pid: 7, since, stopped: true })).toBe("  guard       stopped by a signal, pid 7");
	expect(guardLine(undefined)).toBe("  guard       none runs: start one, stillpoint guard run");
});
