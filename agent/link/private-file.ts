import { mkdir, open, rename } from "node:fs/promises";
import { dirname } from "node:path";

/** Whole or not at all, also through a power cut; mode 0600 in a folder of mode 0700. */
export async function writePrivateFile(path: string, value: object): Promise<void> {
	await mkdir(dirname(path), { recursive: true, mode: 0o700 });
	{
		await using file = await open(`${path}.new`, "w", 0o600);
		await file.writeFile(`${JSON.stringify(value, undefined, "\t")}\n`);
		await file.sync();
	}
	await rename(`${path}.new`, path);
	await using folder = await open(dirname(path));
	await folder.sync();
}
