import { constants } from "node:fs";
import { open } from "node:fs/promises";

/** The first bytes of a regular file of the guest; undefined when there is none that can be read. Follows no link. */
export async function readHead(path: Buffer, most: number): Promise<Buffer | undefined> {
	try {
		await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
		if (!(await file.stat()).isFile()) return undefined;
		const { buffer, bytesRead } = await file.read(Buffer.alloc(most), 0, most, 0);
		return buffer.subarray(0, bytesRead);
	} catch {
		return undefined;
	}
}
