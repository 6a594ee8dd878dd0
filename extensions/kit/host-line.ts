import type { Readable } from "node:stream";
import { StillpointError } from "../../contracts/errors.ts";

/** A request is a page of JSON at most; more is a mistake or an attack. */
export const maxRequestBytes = 256 * 1024;

export type HostLine = {
	/** The first line of stdin, without its end. */
	readonly text: string;
	/** Settles at the end of stdin, which means that the host is gone. What comes after the line is ignored. */
	readonly hostGone: Promise<void>;
};

/**
 * Reads the first line of stdin; imports no schema library, so that it can be read while that is loaded.
 * @throws `message-too-large`, `asker-lost` when stdin ends before the line does, `deadline-passed`.
 */
export async function readHostLine(stdin: Readable, limitMs: number): Promise<HostLine> {
	const gone = Promise.withResolvers<void>();
	const line = Promise.withResolvers<string>();
	const chunks: Buffer[] = [];
	let bytes = 0;
	let complete = false;
	stdin.on("data", (chunk: Buffer) => {
		if (complete) return;
		const end = chunk.indexOf(0x0a);
		const part = end < 0 ? chunk : chunk.subarray(0, end);
		bytes += part.length;
		if (bytes > maxRequestBytes) {
			complete = true;
			line.reject(new StillpointError("message-too-large", `the request is larger than ${maxRequestBytes} bytes`));
			return;
		}
		chunks.push(part);
		if (end < 0) return;
		complete = true;
		line.resolve(Buffer.concat(chunks).toString("utf8"));
	});
	const onEnd = () => {
		gone.resolve();
		line.reject(new StillpointError("asker-lost", "stdin ended before the request did"));
	};
	stdin.on("end", onEnd);
	stdin.on("close", onEnd);
	stdin.on("error", onEnd);
	const timer = setTimeout(
		() => line.reject(new StillpointError("deadline-passed", `no request within ${limitMs} ms`)),
		limitMs,
	);
	try {
		return { text: await line.promise, hostGone: gone.promise };
	} finally {
		clearTimeout(timer);
	}
}
