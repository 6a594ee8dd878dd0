import { mkdir, open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";

/**
 * Whole or not at all, also through a power cut; mode 0600 in a folder of mode 0700.
 * @throws `disk-full`, `state-unusable`: then the one that was there is as it was.
 */
export async function writePrivateFile(path: string, value: object): Promise<void> {
	try {
		await replaceFile(path, `${JSON.stringify(value, undefined, "\t")}\n`);
	} catch (cause) {
		const { code, message } = cause as NodeJS.ErrnoException;
		const isFull = code === "ENOSPC" || code === "EDQUOT";
		const what = `${path} cannot be written: ${message}`;
		throw new StillpointError(isFull ? "disk-full" : "state-unusable", what, { cause, details: { path } });
	}
}

async function replaceFile(path: string, content: string): Promise<void> {
	await mkdir(dirname(path), { recursive: true, mode: 0o700 });
	{
		await using file = await open(`${path}.new`, "w", 0o600);
		await file.writeFile(content);
		await file.sync();
	}
	await rename(`${path}.new`, path);
	await using folder = await open(dirname(path));
	await folder.sync();
}
