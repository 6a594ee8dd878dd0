import type { Finding } from "../../contracts/verification.ts";
import type { FileSystemInImages, Verdict } from "./found-file-system.ts";
import { findingOf } from "./found-file-system.ts";
import { findNewerXfsMetadata } from "./newer-metadata.ts";
import type { RawReader } from "./raw-image.ts";
import { regionOf } from "./raw-image.ts";
import type { XfsSuperblock } from "./superblock-xfs.ts";
import { parseXfsSuperblock, xfsSuperblockAt } from "./superblock-xfs.ts";
import type { RecordContent, XfsLogRecord } from "./xfs-log.ts";
import { classifyPayload, readLogRecords, readPayload } from "./xfs-log.ts";

export type XfsLogState = {
	/** The last record; undefined: the log is empty. */
	last: XfsLogRecord | undefined;
	/** What recovery would look at: from the tail that the last record names up to itself. */
	toRecover: { record: XfsLogRecord; content: RecordContent }[];
};

/** More than this many records to recover are not looked into: a freeze leaves two. */
const mostLookedInto = 16;

export async function readXfsLogState(reader: RawReader, superblock: XfsSuperblock): Promise<XfsLogState | undefined> {
	if (superblock.logOffsetBytes === undefined) return undefined;
	const log = regionOf(reader, superblock.logOffsetBytes, superblock.logSizeBytes);
	const records = await readLogRecords(log, superblock.metadataUuid);
	const last = records.at(-1);
	if (!last) return { last, toRecover: [] };
	const toRecover: XfsLogState["toRecover"] = [];
	for (const record of records) {
		if (record.lsn < last.tailLsn) continue;
		const looked = toRecover.length < mostLookedInto;
		toRecover.push({ record, content: looked ? classifyPayload(await readPayload(log, record), record) : "other" });
	}
	return { last, toRecover };
}

/**
 * A freeze empties the log and then writes the superblock through it once or twice (the dummy: recovery must run on
 * the next mount). An unmount ends it with an unmount record. Everything else to recover means that it was not frozen,
 * or thawed before the copy was done. Metadata is never newer than the log on a copy of one instant.
 */
export async function checkXfs(fileSystem: FileSystemInImages, signal: AbortSignal): Promise<Finding[]> {
	const { reader } = fileSystem.members[0];
	const superblock = parseXfsSuperblock(await reader.read(xfsSuperblockAt.offsetBytes, xfsSuperblockAt.lengthBytes));
	if (!superblock || superblock.checksumOk === false) {
		return [findingOf(fileSystem, "still", { status: "fail", detail: "the superblock is gone or damaged" })];
	}
	const log = await readXfsLogState(reader, superblock);
	return [
		findingOf(fileSystem, "still", judgeStill(log)),
		findingOf(fileSystem, "torn", await judgeTorn(reader, superblock, log, signal)),
	];
}

export function judgeStill(log: XfsLogState | undefined): Verdict {
	const evidence = "xfs_logprint -t";
	if (!log) return { status: "unknown", detail: "the log lies on another device", evidence };
	if (!log.last) return { status: "unknown", detail: "no record in the log can be read", evidence };
	if (log.toRecover.at(-1)?.content === "unmount") return { status: "pass", detail: "cleanly unmounted", evidence };
	const real = log.toRecover.filter(({ content }) => content !== "superblock-only").length;
	if (real > 0 || log.toRecover.length === 0) {
		const detail = `${real} of ${log.toRecover.length} records to recover carry more than the freeze's dummy`;
		return { status: "fail", detail, evidence };
	}
	const detail = `nothing to recover but the freeze's dummy (${log.toRecover.length} superblock records)`;
	return { status: "pass", detail, evidence };
}

async function judgeTorn(
	reader: RawReader,
	superblock: XfsSuperblock,
	log: XfsLogState | undefined,
	signal: AbortSignal,
): Promise<Verdict> {
	if (!superblock.selfDescribing) return { status: "unknown", detail: "XFS version 4 carries no sequence numbers" };
	if (!log?.last) return { status: "unknown", detail: "without the log's head nothing can be compared" };
	const { newer, looked } = await findNewerXfsMetadata(reader, superblock, log.last.lsn, signal);
	const head = lsnText(log.last.lsn);
	const first = newer[0];
	if (!first) return { status: "pass", detail: `none of ${looked} pieces of metadata is newer than the log (${head})` };
	const where = `${first.kind} at ${first.offsetBytes} is of ${lsnText(first.writtenIn)}`;
	return { status: "fail", detail: `${newer.length} pieces of metadata are newer than the log (${head}): ${where}` };
}

function lsnText(lsn: bigint): string {
	return `${lsn >> 32n}:${lsn & 0xffffffffn}`;
}
