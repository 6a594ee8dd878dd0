import { constants, copyFile, type FileHandle, rm } from "node:fs/promises";
import { performance } from "node:perf_hooks";
import type { Extent } from "./data-extents.ts";
import type { CopySample } from "./predict-copy.ts";
import { copySparsely, pieceBytes } from "./sparse-copy.ts";

/** Errnos that say that this pair of files can't share blocks (ioctl_ficlone(2)); anything else is a real failure. */
const noReflink = new Set(["ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EXDEV", "EINVAL", "ENOTTY", "EPERM", "ETXTBSY"]);

/**
 * Whether the image can be cloned into the folder, and how long that takes: tried with the image itself, because flags
 * of the file (no copy-on-write) count too. The first clone writes out what was still in memory, the second is timed.
 */
export async function tryReflink(image: string, probe: string): Promise<number | undefined> {
	try {
		await reflink(image, probe);
		await rm(probe);
		const startedAtMs = performance.now();
		await reflink(image, probe);
		return performance.now() - startedAtMs;
	} catch (error) {
		if (noReflink.has((error as NodeJS.ErrnoException).code ?? "")) return undefined;
		throw error;
	} finally {
		await rm(probe, { force: true });
	}
}

export async function reflink(image: string, target: string): Promise<void> {
	await copyFile(image, target, constants.COPYFILE_FICLONE_FORCE);
}

const samplePieces = 4;
const sampleBytes = samplePieces * pieceBytes;
const mostExtents = 256;

/** Copies a few pieces from all over the image into `target`, and cuts it to nothing again. */
export async function sampleCopy(
	source: FileHandle,
	target: FileHandle,
	extents: readonly Extent[],
	signal: AbortSignal,
): Promise<CopySample> {
	const chosen = chooseSample(extents);
	const bytes = chosen.reduce((sum, one) => sum + one.length, 0);
	const end = chosen.reduce((most, one) => Math.max(most, one.offset + one.length), 0);
	await target.truncate(end);
	try {
		const startedAtMs = performance.now();
		await copySparsely({ source, target, extents: chosen, skipZeros: false, signal });
		const acceptedMs = performance.now() - startedAtMs;
		await target.datasync();
		return { bytes, acceptedMs, writtenMs: performance.now() - startedAtMs };
	} finally {
		await target.truncate(0);
	}
}

/**
 * The beginnings of extents that are evenly spread over the list: more of them where they are short, because a few
 * short reads say nothing but how long a read takes to begin.
 */
export function chooseSample(extents: readonly Extent[]): Extent[] {
	const [only] = extents;
	const stride = Math.floor((only?.length ?? 0) / samplePieces);
	if (only !== undefined && extents.length === 1 && stride >= pieceBytes) {
		const starts = Array.from({ length: samplePieces }, (_, index) => only.offset + index * stride);
		return starts.map((offset) => ({ offset, length: pieceBytes }));
	}
	for (let count = samplePieces; ; count *= 2) {
		const step = Math.max(1, Math.floor(extents.length / count));
		const chosen = extents.filter((_, index) => index % step === 0).slice(0, count);
		const short = chosen.map(({ offset, length }) => ({ offset, length: Math.min(length, sampleBytes / count) }));
		const bytes = short.reduce((sum, one) => sum + one.length, 0);
		if (bytes >= sampleBytes / 2 || count >= mostExtents || step === 1) return short;
	}
}
