/** How long the freeze would wait for data that is not written yet: an estimate, and said to be one. */
import { readFile } from "node:fs/promises";
import type { Finding, PredictedStall } from "../../contracts/check.ts";
import { humanBytes, humanMs } from "../output.ts";

/** Below this much a disk's mean speed says nothing. */
const leastWrittenBytes = 64 * 1024 * 1024;
/** The hold limit of an order that names none. */
const usualHoldMs = 10_000;

export async function readPredictedStall(disks: readonly { name: string; number: string }[]): Promise<PredictedStall> {
	const dirtyBytes = parseDirtyBytes(await readFile("/proc/meminfo", "utf8"));
	const speeds = await Promise.all(
		disks.map(async ({ name, number }) => {
			const text = await readFile(`/sys/dev/block/${number}/stat`, "utf8").catch(() => "");
			const bytesPerSecond = parseWriteSpeed(text);
			return bytesPerSecond === undefined ? [] : [{ disk: name, bytesPerSecond }];
		}),
	);
	const slowest = speeds.flat().sort((a, b) => a.bytesPerSecond - b.bytesPerSecond)[0];
	if (slowest === undefined) return { dirtyBytes };
	return { dirtyBytes, ...slowest, predictedMs: Math.round((dirtyBytes / slowest.bytesPerSecond) * 1000) };
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
	return Math.round((writtenBytes / tookMs) * 1000);
}

export function stallText({ dirtyBytes, disk, bytesPerSecond, predictedMs }: PredictedStall): string {
	const dirty = `${humanBytes(dirtyBytes)} are not written yet`;
	if (predictedMs === undefined || bytesPerSecond === undefined)
		return `${dirty}; too little was written since boot to tell how fast the disks are`;
	const speed = `${humanBytes(bytesPerSecond)}/s of ${disk} since boot`;
	return `at most about ${humanMs(predictedMs)} (estimate: ${dirty}, ${speed}); a job syncs before it freezes`;
}

export function stallFinding(stall: PredictedStall): Finding {
	const isLong = (stall.predictedMs ?? 0) > usualHoldMs;
	return {
		check: "stall",
		status: isLong ? "warn" : "ok",
		what: stallText(stall),
		...(isLong
			? {
					why: `An order holds for ${humanMs(usualHoldMs)} unless it says otherwise.`,
					remedy: "Order in a quieter hour, or lower vm.dirty_bytes.",
				}
			: {}),
	};
}
