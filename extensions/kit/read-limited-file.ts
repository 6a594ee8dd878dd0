import { constants } from "node:fs";
import { open } from "node:fs/promises";

/**
 * The text of a regular file of UTF-8, without a byte order mark. Never waits for a FIFO or a device.
 * @throws what the file system says, or that it is no such file
 */
export async function readLimitedFile(path: string, limitBytes: number): Promise<string> {
	await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
	const stats = await file.stat();
	if (!stats.isFile()) throw new Error("is not a regular file");
	if (stats.size > limitBytes) throw new Error(`is larger than ${limitBytes} bytes`);
	const bytes = await file.readFile();
	try {
		return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
	} catch {
		throw new Error("is not UTF-8");
	}
}

export function isMissing(error: unknown): boolean {
	return error instanceof Error && "code" in error && error.code === "ENOENT";
}
