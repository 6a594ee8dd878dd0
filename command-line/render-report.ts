/** A report as a page for people: the level first, then why, what writers felt, and the evidence. */
import { becauseTexts, type Report, type ScriptReport } from "../contracts/report.ts";
import { type Cell, fields, type Page, paint, plainPage, printable, table } from "./layout.ts";
import { humanMs, humanTime } from "./output.ts";
import { levelTones } from "./render-jobs.ts";

export function renderReport(report: Report, page: Page = plainPage): string {
	const parts = [
		`Job ${paint(printable(report.jobId), "strong", page)}\n${fields(summaryRows(report), page)}`,
		part("Disks", page, diskRows(report), [0]),
		part("File systems", page, fileSystemRows(report)),
		...(report.scripts.length > 0 ? [`Scripts\n${renderScripts(report.scripts, page)}`] : []),
		part("Not covered", page, notCoveredRows(report)),
		...withoutStorage(report),
	];
	return `${parts.filter((one) => one !== "").join("\n\n")}\n`;
}

function summaryRows(report: Report): [string, Cell][] {
	const { achieved, held, error, window, because, disks } = report;
	const worth = achieved === null ? `unknown (the hold was worth ${held})` : achieved;
	const asked = `${worth}   (asked ${report.requested}, accepted ${report.accepted})`;
	const rows: [string, Cell][] = [["level", { text: asked, tone: error ? "bad" : levelTones[achieved ?? held] }]];
	const words = [...new Set([...because, ...disks.filter((one) => one.included).flatMap((one) => one.because)])];
	words.forEach((word, index) => {
		rows.push([index === 0 ? "because" : "", `${becauseTexts[word]} [${word}]`]);
	});
	if (error) rows.push(["error", { text: `${error.code}: ${error.message}`, tone: "bad" }]);
	rows.push(["started", `${humanTime(report.startedAt)}, took ${humanMs(report.durationMs)}`]);
	rows.push(["by", `${report.extension.name} ${report.extension.version}`]);
	if (window !== undefined) {
		const { freezeMs, heldMs, thawMs, skewMs, predictedMs } = window;
		rows.push([
			"window",
			`freeze ${humanMs(freezeMs)}, held ${humanMs(heldMs)}, thaw ${humanMs(thawMs)}, skew ${humanMs(skewMs)}` +
				(predictedMs === undefined ? "" : `; the snapshot was predicted to take ${humanMs(predictedMs)}`),
		]);
		const syncMs = Math.max(0, ...report.fileSystems.map((one) => one.syncMs ?? 0));
		const synced = syncMs > 0 ? `; before it data was written out for ${humanMs(syncMs)}` : "";
		const { stallMs = freezeMs + heldMs + thawMs, predictedStallMs } = window;
		const foreseen = predictedStallMs === undefined ? "" : ` (predicted ${humanMs(predictedStallMs)})`;
		rows.push(["writers", `waited for ${humanMs(stallMs)} at most${foreseen}${synced}`]);
	}
	return rows;
}

function diskRows({ disks }: Report): Cell[][] {
	const rows = disks
		.filter((disk) => disk.included)
		.map((disk): Cell[] => {
			const level = disk.achieved ?? "unknown";
			return [disk.name, { text: level, tone: levelTones[disk.achieved ?? disk.held] }, disk.because.join(", ")];
		});
	return rows.length > 0 ? [["disk", "level", "because"], ...rows] : [];
}

function fileSystemRows({ fileSystems }: Report): Cell[][] {
	const rows = fileSystems.flatMap((one): Cell[][] => {
		const isGood = one.result === "thawed";
		const result = one.result === "pending" ? "not frozen" : one.result;
		const times = [one.syncMs, one.freezeMs, one.heldMs, one.thawMs].map(humanMs);
		const row: Cell[] = [
			one.mountPoint,
			one.fsType,
			one.disks.join(","),
			{ text: result, tone: isGood ? "good" : "bad" },
			...times,
		];
		return one.error === undefined ? [row] : [row, [`  ${one.error}`]];
	});
	return rows.length > 0 ? [["mount point", "type", "disks", "result", "sync", "freeze", "held", "thaw"], ...rows] : [];
}

function renderScripts(scripts: readonly ScriptReport[], page: Page): string {
	const rows = scripts.flatMap((one): Cell[][] => {
		const isGood = one.error === undefined && !one.timedOut && one.held !== false && (one.exitCode ?? 0) === 0;
		const ended = one.timedOut
			? "timed out"
			: (one.signal ?? (one.exitCode === undefined ? "not run" : `exit ${one.exitCode}`));
		const hold = one.held === undefined ? "" : one.held ? "held" : "NOT held";
		return [[one.name, one.phase, { text: ended, tone: isGood ? "good" : "bad" }, hold, humanMs(one.durationMs)]];
	});
	const lines = table([["application", "phase", "ended", "hold", "took"], ...rows], { page, indent: 2, head: true });
	const said = scripts.flatMap((one): [string, Cell][] => {
		const last = one.outputTail.trimEnd().split("\n").at(-1)?.trim() ?? "";
		return [
			...(one.error === undefined ? [] : [[one.name, { text: one.error.message, tone: "bad" }] as [string, Cell]]),
			...(last === "" ? [] : [[one.name, last] as [string, Cell]]),
		];
	});
	const width = Math.max(11, ...said.map(([name]) => Math.min(24, name.length)));
	return said.length === 0 ? lines : `${lines}\n  last words\n${fields(said, page, width)}`;
}

function notCoveredRows({ notCovered }: Report): Cell[][] {
	return notCovered.filter((one) => one.why !== "no-storage").map((one) => [one.what, one.why, one.detail ?? ""]);
}

function withoutStorage({ notCovered }: Report): string[] {
	const count = notCovered.filter((one) => one.why === "no-storage").length;
	return count === 0
		? []
		: [`${count === 1 ? "1 mount has" : `${count} mounts have`} no own storage (tmpfs, overlay): see --json.`];
}

function part(title: string, page: Page, rows: Cell[][], whole: number[] = []): string {
	const head = title !== "Not covered";
	return rows.length === 0 ? "" : `${title}\n${table(rows, { page, indent: 2, whole, head })}`;
}
