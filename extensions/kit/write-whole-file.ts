import { open, rename, rm } from "node:fs/promises";

/** Readers never see half of it: written beside, synced and renamed. Mode 0600. @throws what the file system says */
export async function writeWholeFile(path: string, content: string): Promise<void> {
	const beside = `${path}.new-${process.pid}`;
	try {
		{
			await using file = await open(beside, "w", 0o600);
			await file.writeFile(content);
			await file.sync();
		}
		await rename(beside, path);
	} catch (error) {
		await rm(beside, { force: true }).catch(() => undefined);
		throw error;
	}
}
