import type { Readable } from "node:stream";

/** Reads a stream to its end, so that its writer never blocks, and keeps the last `maxBytes`. */
export function keepTail(streams: readonly Readable[], maxBytes: number): { text(): string } {
	const chunks: Buffer[] = [];
	const sum = { bytes: 0 };
	for (const stream of streams) {
		stream.on("error", () => {});
		stream.on("data", (chunk: Buffer) => {
			chunks.push(chunk.length > maxBytes ? chunk.subarray(-maxBytes) : chunk);
			sum.bytes += Math.min(chunk.length, maxBytes);
			while (chunks.length > 1 && sum.bytes - (chunks[0]?.length ?? 0) >= maxBytes)
				sum.bytes -= chunks.shift()?.length ?? 0;
		});
	}
	return { text: () => Buffer.concat(chunks).subarray(-maxBytes).toString("utf8") };
}
