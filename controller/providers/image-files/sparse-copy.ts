import type { FileHandle } from "node:fs/promises";
import { type Extent, splitExtents } from "./data-extents.ts";

export const pieceBytes = 2 * 1024 * 1024;
/** Pieces in flight per copy: enough to read and write at once; the memory is this times the piece. */
const lanes = 3;
const holeBytes = 64 * 1024;
const zeros = Buffer.alloc(holeBytes);

export type SparseCopy = {
	readonly source: FileHandle;
	/** Empty (all hole) and as long as the source. */
	readonly target: FileHandle;
	readonly extents: Iterable<Extent>;
	/** Leaves out blocks of zeros inside the extents: for sources that can't tell their holes. */
	readonly skipZeros: boolean;
	readonly signal: AbortSignal;
};

/**
 * Copies the extents in parallel pieces; returns the bytes that were written. After the signal no new piece begins, and
 * it rejects when those in flight (`lanes`) have ended. A source that is shorter than an extent is an error.
 */
export async function copySparsely({ source, target, extents, skipZeros, signal }: SparseCopy): Promise<number> {
	const failed = new AbortController();
	const stop = AbortSignal.any([signal, failed.signal]);
	const pieces = splitExtents(extents, pieceBytes);
	let writtenBytes = 0;

	async function runLane(): Promise<void> {
		const buffer = Buffer.allocUnsafe(pieceBytes);
		for (const piece of pieces) {
			stop.throwIfAborted();
			const data = await readFully(source, buffer.subarray(0, piece.length), piece.offset, stop);
			for (const part of skipZeros ? findNonZero(data) : [{ offset: 0, length: data.length }]) {
				await writeFully(
					target,
					data.subarray(part.offset, part.offset + part.length),
					piece.offset + part.offset,
					stop,
				);
				writtenBytes += part.length;
			}
		}
	}

	const settled = await Promise.allSettled(
		Array.from({ length: lanes }, () =>
			runLane().catch((error) => {
				failed.abort(error);
				throw error;
			}),
		),
	);
	if (settled.some((lane) => lane.status === "rejected")) throw stop.reason;
	signal.throwIfAborted();
	return writtenBytes;
}

/** Runs of 64 KiB blocks that are not all zero, joined where they touch. */
export function* findNonZero(data: Buffer): Generator<Extent> {
	let start = -1;
	for (let offset = 0; offset < data.length; offset += holeBytes) {
		const block = data.subarray(offset, offset + holeBytes);
		const isZero = block.equals(block.length === holeBytes ? zeros : zeros.subarray(0, block.length));
		if (isZero && start >= 0) yield { offset: start, length: offset - start };
		if (isZero) start = -1;
		else if (start < 0) start = offset;
	}
	if (start >= 0) yield { offset: start, length: data.length - start };
}

async function readFully(source: FileHandle, into: Buffer, position: number, stop: AbortSignal): Promise<Buffer> {
	let done = 0;
	while (done < into.length) {
		stop.throwIfAborted();
		const { bytesRead } = await source.read(into, done, into.length - done, position + done);
		if (bytesRead === 0) throw new Error(`the source ends at byte ${position + done}, before its data does`);
		done += bytesRead;
	}
	return into;
}

async function writeFully(target: FileHandle, data: Buffer, position: number, stop: AbortSignal): Promise<void> {
	let done = 0;
	while (done < data.length) {
		stop.throwIfAborted();
		const { bytesWritten } = await target.write(data, done, data.length - done, position + done);
		done += bytesWritten;
	}
}
