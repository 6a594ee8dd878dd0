import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** A reader sees the old or the new content, whole, also after a loss of power. */
export async function replaceFile(path: string, text: string, mode = 0o600): Promise<void> {
	const beside = `${path}.new`;
	try {
		// Not through what somebody else may have put there.
		await rm(beside, { force: true });
		{
			await using file = await open(beside, "wx", mode);
			await file.writeFile(text);
			await file.sync();
		}
		await rename(beside, path);
	} catch (error) {
		await rm(beside, { force: true }).catch(() => undefined);
		throw error;
	}
	await syncFolder(dirname(path));
}

export async function syncFolder(path: string): Promise<void> {
	await using folder = await open(path);
	await folder.sync();
}
