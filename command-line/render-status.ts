/** The agent's status as one screen of 80 by 24: is the machine protected, then what there is to know. */
import type { AgentStatus } from "../contracts/local-calls.ts";
import { type Protection, protectionReasons } from "../contracts/protection.ts";
import { type Cell, fields, type Page, paint } from "./layout.ts";
import { humanMs, humanTime } from "./output.ts";
import { renderJobs } from "./render-jobs.ts";

const jobsShown = 5;
const tones = { protected: "good", degraded: "warn", unprotected: "bad" } as const;

/** @param nowMs for ages. */
export function renderStatus(status: AgentStatus, page: Page, nowMs: number): string {
	const { protection, link, extensions, job, frozen, lastJobs } = status;
	const rows: [string, Cell][] = [
		...protectionRows(protection, nowMs),
		...linkLines(link).map((line, index): [string, Cell] => [index === 0 ? "link" : "", line]),
		["extensions", extensions.map((one) => `${one.name} ${one.version} (${one.state})`).join(", ") || "none"],
		["job", job === undefined ? "none runs" : { text: `${job.jobId}: ${job.phase}`, tone: "strong" }],
	];
	if (frozen.length > 0)
		rows.push(["FROZEN", { text: frozen.map((one) => `${one.mountPoint} (${one.state})`).join(", "), tone: "bad" }]);
	else rows.push(["frozen", "nothing by us"]);
	if (job?.phase === "stuck")
		rows.push([
			"",
			{ text: "thawed when the kernel lets go; see: stillpoint explain stuck, stillpoint thaw", tone: "bad" },
		]);
	rows.push(["guard", guardCell(status.guard)]);
	rows.push([
		"agent",
		`${status.version} on ${status.hostname}, pid ${status.pid}, since ${humanTime(status.startedAt)}`,
	]);
	const since = protection.since === undefined ? "" : ` since ${whenAndAge(protection.since, nowMs)}`;
	const lines = [`${paint(protection.state.toUpperCase(), tones[protection.state], page)}${since}`, fields(rows, page)];
	if (lastJobs.length > 0) lines.push("", "Last jobs", renderJobs(lastJobs.slice(0, jobsShown), page));
	return lines.join("\n");
}

function guardCell(guard: AgentStatus["guard"]): Cell {
	if (guard === undefined) return { text: "none runs: start one, stillpoint guard run", tone: "warn" };
	if (guard.stopped) return { text: `stopped by a signal, pid ${guard.pid}`, tone: "warn" };
	return `pid ${guard.pid}, since ${humanTime(guard.since)}`;
}

function protectionRows({ why, lastGood, wanted }: Protection, nowMs: number): [string, Cell][] {
	const wantedText = `${wanted.level}${wanted.maxAgeMs === null ? "" : `, every ${humanMs(wanted.maxAgeMs)}`}`;
	const good: Cell =
		lastGood === undefined
			? `none (wanted: ${wantedText})`
			: `${lastGood.level}, ${whenAndAge(lastGood.startedAt, nowMs)}`;
	return [
		...why.map(({ code, detail }, index): [string, Cell] => [
			index === 0 ? "why" : "",
			{ text: `${protectionReasons[code].summary} [${[code, detail].filter(Boolean).join("; ")}]`, tone: "warn" },
		]),
		["last good", good],
	];
}

function whenAndAge(at: string, nowMs: number): string {
	return `${humanTime(at)}, ${humanMs(Math.max(0, nowMs - Date.parse(at)))} ago`;
}

function linkLines(link: AgentStatus["link"]): string[] {
	const known = `${link.controller ?? "?"} as ${link.agentId ?? "?"}`;
	const state = link.connected
		? `connected to ${known}`
		: link.enrolled
			? `NOT connected to ${known}`
			: "not enrolled: works for local orders only";
	const lines = [link.unsentReports > 0 ? `${state}, ${link.unsentReports} reports to send` : state];
	if (link.error !== undefined) {
		const { code, message } = link.error;
		lines.push(`${code}: ${message} (stillpoint explain ${code})`);
	}
	if (link.heldBackReports !== undefined)
		lines.push(`${link.heldBackReports} reports are held back: another controller ordered their jobs`);
	if (link.clockDifferenceMs !== undefined)
		lines.push(`the controller's clock differs by ${Math.round(link.clockDifferenceMs / 1000)} s`);
	return lines;
}
