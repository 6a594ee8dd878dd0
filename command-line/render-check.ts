/** The check as one screen of 80 by 24; with details all that is known, below it. */
import type { Check, Finding } from "../contracts/check.ts";
import { freezeResultText } from "./check/freeze-findings.ts";
import { type Cell, fields, type Page, paint, paragraph, type Tone, table } from "./layout.ts";
import { humanBytes, humanMs } from "./output.ts";

/** Of 24 one is the shell's. */
const screenLines = 23;
const disksShown = 4;
const longestShown = 132;
const tones = { protected: "good", degraded: "warn", unprotected: "bad" } as const;
const marks: Readonly<Record<Finding["status"], Tone>> = { ok: "good", warn: "warn", fail: "bad", unknown: "warn" };

export function renderCheck(check: Check, withDetails: boolean, page: Page): string {
	const lines = withDetails ? [...head(check, page), "", ...details(check, page)] : screen(check, page);
	return lines.join("\n");
}

function screen(check: Check, page: Page): string[] {
	const { disks, findings } = check;
	const wrong = findings.filter(({ status }) => status !== "ok");
	// The line that tells of one more has room for it.
	const shownDisks = disks.length === disksShown + 1 ? disks : disks.slice(0, disksShown);
	const more = disks.length > shownDisks.length ? [`  and ${disks.length - shownDisks.length} more`] : [];
	const lines = [...head(check, page), "", diskTable(shownDisks, page), ...more].flatMap(linesOf);
	const room = screenLines - lines.length - 4;
	const shown: string[] = [];
	let told = 0;
	for (const one of wrong) {
		const next = brief(one, page).flatMap(linesOf);
		if (told > 0 && shown.length + next.length > room) break;
		shown.push(...next);
		told += 1;
	}
	if (wrong.length > 0) lines.push("", `In the way (${wrong.length})`, ...shown);
	const left = wrong.length > told ? `${wrong.length - told} more, and ` : "";
	const well = `${left}${count(findings.length - wrong.length, "finding")} without fault: stillpoint check --details`;
	return [...lines, "", paint(well, "dim", page)];
}

function linesOf(text: string): string[] {
	return text.split("\n");
}

function head(check: Check, page: Page): string[] {
	const { state, fileSystems, frozen, stall, hostname, notCovered, wanted } = check;
	const verdict = `${paint(state.toUpperCase(), tones[state], page)}  ${verdictText(check)}`;
	const rows: [string, Cell][] = [
		["wanted", `${wanted} or better on every disk of ${hostname}`],
		[
			"covers",
			`${count(fileSystems.length, "file system")} in ${count(new Set(fileSystems.map(({ order }) => order)).size, "freeze level")}; ${notCovered.length} not covered`,
		],
		frozen.length === 0
			? ["frozen", "nothing"]
			: [
					"FROZEN",
					{ text: cut(frozen.map(({ mountPoint, by }) => `${mountPoint} (by ${by})`).join(", ")), tone: "bad" },
				],
	];
	const tried = fileSystems.flatMap((one) => (one.tried === undefined ? [] : [one.tried]));
	if (tried.length > 0) rows.push(["tried", triedText(tried)]);
	if (stall?.predictedMs !== undefined)
		rows.push([
			"stall",
			`at most about ${humanMs(stall.predictedMs)} to write ${humanBytes(stall.dirtyBytes)} (estimate)`,
		]);
	return [verdict, fields(rows, page)];
}

function verdictText({ state, disks, wanted }: Check): string {
	const included = disks.filter((one) => one.included);
	const worst = included.filter(({ level }) => level !== "application");
	if (included.length === 0) return "no disk is covered";
	if (state === "protected")
		return worst.length === 0 ? "every disk would reach application" : `every disk would reach ${wanted} or better`;
	return state === "degraded"
		? "a snapshot is worth what is wanted, but something is in the way"
		: "a snapshot taken now would not be what is wanted";
}

function triedText(tried: readonly NonNullable<Check["fileSystems"][number]["tried"]>[]): string {
	const well = tried.filter(({ result }) => result === "thawed");
	const longest = Math.max(0, ...well.map(({ freezeMs = 0, heldMs = 0, thawMs = 0 }) => freezeMs + heldMs + thawMs));
	const times = well.length === 0 ? "" : `, the longest for ${humanMs(longest)}`;
	return `${well.length} of ${tried.length} frozen and thawed${times}`;
}

function diskTable(disks: Check["disks"], page: Page, isWhole = false): string {
	if (disks.length === 0) return "  no disks";
	const rows = disks.map(({ name, sizeBytes, included, level, because }): Cell[] => [
		name,
		humanBytes(sizeBytes),
		included
			? { text: level, tone: level === "application" || level === "file-system" ? "good" : "bad" }
			: { text: "left out", tone: "dim" },
		isWhole ? because.map(({ what }) => what).join(" ") : because.map(({ code }) => code).join(", "),
	]);
	return table([["DISK", "SIZE", "LEVEL", "NOT MORE, BECAUSE"], ...rows], { page, indent: 2, head: true });
}

/** At most three lines on a screen of 80 columns. */
function brief({ check, status, what, remedy }: Finding, page: Page): string[] {
	const lines = hanging(`${check}: ${cut(what, longestShown - check.length)}`, status, page);
	if (remedy !== undefined) lines.push(paragraph(cut(remedy, 66), page, 11, "dim"));
	return lines;
}

function details(check: Check, page: Page): string[] {
	const { fileSystems, notCovered, disks, findings } = check;
	const systems = fileSystems.map(({ order, mountPoint, device, fsType, disks: on, state, tried }): Cell[] => [
		String(order),
		mountPoint,
		`${fsType} on ${device}`,
		on.join(", "),
		tried === undefined
			? state
			: {
					text: `${tried.error ?? freezeResultText(tried.result)}${timesOf(tried)}`,
					tone: tried.result === "thawed" ? "good" : "bad",
				},
	]);
	return [
		"Disks",
		diskTable(disks, page, true),
		"",
		"File systems, in the order of freezing",
		systems.length === 0
			? "  none"
			: table([["ORDER", "MOUNT POINT", "WHAT", "DISKS", "STATE"], ...systems], { page, indent: 2, head: true }),
		"",
		"Not covered",
		notCovered.length === 0
			? "  nothing"
			: table(
					notCovered.map(({ what, why, detail }) => [what, why, detail ?? ""]),
					{ page, indent: 2 },
				),
		"",
		"Findings",
		...findings.map((one) => finding(one, page)),
	];
}

function timesOf({ freezeMs, heldMs, thawMs }: NonNullable<Check["fileSystems"][number]["tried"]>): string {
	const told = [
		["freeze", freezeMs],
		["held", heldMs],
		["thaw", thawMs],
	].flatMap(([name, ms]) => (typeof ms === "number" ? [`${name} ${humanMs(ms)}`] : []));
	return told.length === 0 ? "" : `: ${told.join(", ")}`;
}

function finding({ check, status, what, why, remedy }: Finding, page: Page): string {
	const lines = hanging(`${check}: ${what}`, status, page);
	if (why !== undefined) lines.push(paragraph(why, page, 11));
	if (remedy !== undefined) lines.push(paragraph(`Do: ${remedy}`, page, 11));
	return lines.join("\n");
}

/** The status before the first line, and the text below itself. */
function hanging(text: string, status: Finding["status"], page: Page): string[] {
	const tone = status === "ok" ? undefined : marks[status];
	const below = paragraph(text, page, 11, tone);
	return [`  ${paint(status, marks[status], page)}${" ".repeat(9 - status.length)}${below.slice(11)}`];
}

function cut(text: string, most: number = longestShown): string {
	const short = [...text];
	return short.length <= most
		? text
		: `${short
				.slice(0, most - 3)
				.join("")
				.trimEnd()}...`;
}

function count(number: number, what: string): string {
	return `${number} ${what}${number === 1 ? "" : "s"}`;
}
