import { maxFrameBytes } from "../../contracts/controller-messages.ts";
import type { Report } from "../../contracts/report.ts";

/** For the frame around it. */
const aroundBytes = 1_024;

/**
 * The report as it fits into a frame: first without the output of scripts, then with shorter lists. What it is worth is
 * never cut, and the whole one stays in the journal. A report that does not fit would hold up all later ones for ever.
 */
export function fitReport(report: Report, limitBytes: number = maxFrameBytes - aroundBytes): Report {
	if (fits(report, limitBytes)) return report;
	let cut: Report = { ...report, scripts: report.scripts.map((script) => ({ ...script, outputTail: "" })) };
	while (!fits(cut, limitBytes) && longestList(cut) > 0)
		cut = {
			...cut,
			scripts: half(cut.scripts),
			fileSystems: half(cut.fileSystems),
			writers: half(cut.writers),
			notCovered: half(cut.notCovered),
			disks: half(cut.disks),
		};
	return cut;
}

function fits(report: Report, limitBytes: number): boolean {
	return Buffer.byteLength(JSON.stringify(report)) <= limitBytes;
}

function longestList({ scripts, fileSystems, writers, notCovered, disks }: Report): number {
	return Math.max(...[scripts, fileSystems, writers, notCovered, disks].map(({ length }) => length));
}

function half<T>(list: T[]): T[] {
	return list.slice(0, Math.floor(list.length / 2));
}
