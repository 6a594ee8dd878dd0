import { becauseTexts, type Report } from "../contracts/report.ts";
import { humanMs, table } from "./output.ts";

/** A report as a page for people: the level first, then why, then the evidence. */
export function renderReport(report: Report): string {
	const worth = report.achieved === null ? `unknown (the hold was worth ${report.held})` : report.achieved;
	const lines = [
		`Job ${report.jobId}`,
		`  level      ${worth}   (asked ${report.requested}, accepted ${report.accepted})`,
		`  started    ${report.startedAt}, took ${humanMs(report.durationMs)}`,
		`  by         ${report.extension.name} ${report.extension.version}`,
	];
	if (report.error) lines.push(`  error      ${report.error.code}: ${report.error.message}`);
	for (const code of report.because) lines.push(`  because    ${becauseTexts[code]}`);
	if (report.window) {
		const { freezeMs, heldMs, thawMs, skewMs } = report.window;
		lines.push(
			`  window     freeze ${humanMs(freezeMs)}, held ${humanMs(heldMs)}, thaw ${humanMs(thawMs)}, skew ${humanMs(skewMs)}`,
		);
	}
	if (report.disks.length > 0) {
		lines.push("", "Disks");
		const rows = report.disks
			.filter((disk) => disk.included)
			.map((disk) => [disk.name, disk.achieved ?? "unknown", disk.because.map((code) => becauseTexts[code]).join(" ")]);
		lines.push(indent(table([["disk", "level", "because"], ...rows])));
	}
	if (report.fileSystems.length > 0) {
		lines.push("", "File systems");
		const rows = report.fileSystems.map((one) => [
			one.mountPoint,
			one.fsType,
			one.disks.join(","),
			one.result === "pending" ? "not frozen" : one.result,
			humanMs(one.syncMs),
			humanMs(one.freezeMs),
			humanMs(one.heldMs),
			humanMs(one.thawMs),
			one.error ?? "",
		]);
		lines.push(
			indent(table([["mount point", "type", "disks", "result", "sync", "freeze", "held", "thaw", ""], ...rows])),
		);
	}
	if (report.scripts.length > 0) {
		lines.push("", "Scripts");
		const rows = report.scripts.map((one) => [
			one.name,
			one.phase,
			one.timedOut ? "timed out" : (one.signal ?? `exit ${one.exitCode ?? "?"}`),
			one.held === undefined ? "" : one.held ? "held" : "NOT held",
			humanMs(one.durationMs),
			one.error?.message ?? "",
		]);
		lines.push(indent(table([["application", "phase", "ended", "hold", "took", ""], ...rows])));
	}
	const named = report.notCovered.filter((one) => one.why !== "no-storage");
	if (named.length > 0) {
		lines.push("", "Not covered");
		lines.push(indent(table(named.map((one) => [one.what, one.why, one.detail ?? ""]))));
	}
	const without = report.notCovered.length - named.length;
	if (without > 0) lines.push("", `${without} mounts have no storage of their own (tmpfs, overlay): see --json.`);
	return `${lines.join("\n")}\n`;
}

function indent(text: string): string {
	return text.replaceAll(/^/gm, "  ").replaceAll(/ +$/gm, "");
}
