/**
 * How long a freeze will stop writers: an estimate, the one that `check`, a job's stall budget and its report share.
 *
 *   stall = snapshot + for each level of the stack (grace + twice the longest write-out in it) + something for each call
 *
 * A FIFREEZE writes out what is dirty while writers wait. Right before it, the last sync of the same file system is the
 * best measure of that: what came in since the sync began took about as long to come as the sync took. How near it is:
 * docs/report.md.
 */
import { readFile } from "node:fs/promises";

/** Measured on one machine with two processors, see docs/report.md: the RCU waits of a FIFREEZE. */
const graceMs = { expedited: 1.5, usual: 45 };
/** FIFREEZE and FITHAW of one idle file system beside others, and the messages about them. */
const eachMs = 0.35;
/** With steady writers a freeze took 0.6 to 6 times as long as the sync right before it, commonly twice. */
const caution = 2;
/** From the last answer of FIFREEZE to the asker, and from the asker's word to the first FITHAW. */
const messagesMs = 5;
/** Below this much a disk's mean speed says nothing. */
const leastWrittenBytes = 64 * 1024 * 1024;

export type StallForecast = {
	readonly fileSystems: readonly {
		readonly level: number;
		/** How long it takes to write out what is dirty on it: its last sync. */
		readonly writeOutMs: number;
	}[];
	/** `rcu_expedited` is on, or will be. */
	readonly expedited: boolean;
	/** What the asker expects its snapshot to take. */
	readonly snapshotMs?: number | undefined;
};

export function predictStallMs({ fileSystems, expedited, snapshotMs = 0 }: StallForecast): number {
	const longest = new Map<number, number>();
	for (const { level, writeOutMs } of fileSystems) longest.set(level, Math.max(longest.get(level) ?? 0, writeOutMs));
	const grace = expedited ? graceMs.expedited : graceMs.usual;
	const levelsMs = [...longest.values()].reduce((sum, writeOutMs) => sum + grace + caution * writeOutMs, 0);
	return snapshotMs + levelsMs + fileSystems.length * eachMs + messagesMs;
}

export type Unwritten = {
	/** Of the whole machine. */
	readonly dirtyBytes: number;
	/** The slowest of the disks, where enough was written since boot to tell. */
	readonly slowest?: { readonly disk: string; readonly bytesPerSecond: number };
};

/** @param disks `number` is "MAJOR:MINOR". @throws when /proc can't be read. */
export async function readUnwritten(disks: readonly { name: string; number: string }[]): Promise<Unwritten> {
	const dirtyBytes = parseDirtyBytes(await readFile("/proc/meminfo", "utf8"));
	const speeds = await Promise.all(
		disks.map(async ({ name, number }) => {
			const text = await readFile(`/sys/dev/block/${number}/stat`, "utf8").catch(() => "");
			const bytesPerSecond = parseWriteSpeed(text);
			return bytesPerSecond === undefined ? [] : [{ disk: name, bytesPerSecond }];
		}),
	);
	const slowest = speeds.flat().sort((a, b) => a.bytesPerSecond - b.bytesPerSecond)[0];
	return { dirtyBytes, ...(slowest === undefined ? {} : { slowest }) };
}

/** /proc/meminfo: `Dirty` and `Writeback`, in KiB. */
export function parseDirtyBytes(text: string): number {
	const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
	return (kib("Dirty") + kib("Writeback")) * 1024;
}

/**
 * Documentation/block/stat.rst: the 7th field is sectors written, the 8th the ms that writes took, all of them added up:
 * of a disk that writes many at a time this is less than it can do. Undefined: too little was written to tell.
 */
export function parseWriteSpeed(text: string): number | undefined {
	const fields = text.trim().split(/\s+/).map(Number);
	const writtenBytes = (fields[6] ?? 0) * 512;
	const tookMs = fields[7] ?? 0;
	if (!(writtenBytes >= leastWrittenBytes) || !(tookMs > 0)) return undefined;
	const bytesPerSecond = Math.round((writtenBytes / tookMs) * 1000);
	return Number.isFinite(bytesPerSecond) ? bytesPerSecond : undefined;
}
