import { z } from "zod";
import type { FileSystemReport, Report } from "../../contracts/report.ts";
import type { Verdict } from "./found-file-system.ts";

/**
 * While a hold lasts, a file of this name lies in the root folder of each file system (of the mounted subvolume on
 * btrfs): `{"jobId","marker","writtenAt"}` and a newline, synced before the freeze, removed after the thaw.
 */
export function markerName(jobId: string): string {
	return `.stillpoint-hold-${jobId}`;
}

const markerSchema = z.object({ jobId: z.string(), marker: z.string(), writtenAt: z.string() });

/** The superblock of ext4 keeps whole seconds, and the guest's clock may be adjusted during the hold. */
const slackMs = 2_000;

export type InstantEvidence = {
	report: Report;
	/** What the report says of this file system; undefined: it was not mounted. */
	reported: FileSystemReport | undefined;
	/** Content of the marker files that were found; undefined: it could not be looked. */
	markers: readonly string[] | undefined;
	/** ext4: when the superblock was last written, by the guest's clock. */
	writtenAtSeconds: number | undefined;
};

/** Whether the image shows this file system during this job's hold, and not at another time. */
export function judgeSameInstant({ report, reported, markers, writtenAtSeconds }: InstantEvidence): Verdict {
	if (!reported) return { status: "unknown", detail: "the report does not tell of this file system" };
	if (reported.marker !== undefined) {
		const evidence = `cat /${markerName(report.jobId)}`;
		if (!markers) return { status: "unknown", detail: "it could not be looked for the marker", evidence };
		if (markers.length === 0) {
			return { status: "fail", detail: "the marker of this job's hold is not on it: copied at another time", evidence };
		}
		if (markers.some((content) => isMarker(content, report.jobId, reported.marker))) {
			return { status: "pass", detail: "the marker of this job's hold lies on it", evidence };
		}
		return { status: "fail", detail: "a marker lies on it, but not of this job's hold", evidence };
	}
	const from = Date.parse(report.frozenAt ?? "");
	const to = Date.parse(report.thawedAt ?? "");
	if (writtenAtSeconds === undefined || Number.isNaN(from) || Number.isNaN(to)) {
		return { status: "unknown", detail: "no marker was written, and no time on the disk tells" };
	}
	const evidence = "dumpe2fs -h: Last write time";
	const writtenAt = writtenAtSeconds * 1000;
	const isInside = writtenAt + 999 >= from - slackMs && writtenAt <= to + slackMs;
	const when = Number.isSafeInteger(writtenAt) && writtenAt < 8.64e15 ? new Date(writtenAt).toISOString() : "?";
	const detail = `its superblock was written at ${when}, the hold was ${report.frozenAt} to ${report.thawedAt}`;
	return { status: isInside ? "pass" : "fail", detail, evidence };
}

function isMarker(content: string, jobId: string, marker: string | undefined): boolean {
	try {
		const found = markerSchema.parse(JSON.parse(content));
		return found.jobId === jobId && found.marker === marker;
	} catch {
		return false;
	}
}
