import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";

const maxFiles = 20_000;
const maxBytes = 1024 * 1024 * 1024;

export type PackageContent = {
	/** SHA-256 over all paths, executable bits and contents. */
	readonly hash: string;
	/** Relative, sorted. */
	readonly files: readonly { readonly path: string; readonly isExecutable: boolean }[];
};

/**
 * Walks a package and checks that nobody but root could have changed a file of it. Links and special files are
 * refused: what they lead to is not part of the package.
 * @throws `untrusted-path`, `extension-invalid`
 */
export async function readPackageContent(folder: string): Promise<PackageContent> {
	const files: { path: string; isExecutable: boolean }[] = [];
	const hash = createHash("sha256");
	const sum = { bytes: 0 };
	await walk("");
	return { hash: hash.digest("hex"), files };

	async function walk(below: string): Promise<void> {
		for (const name of (await readdir(join(folder, below))).sort()) {
			const path = join(below, name);
			const full = join(folder, path);
			const found = await lstat(full);
			if (found.isSymbolicLink() || !(found.isFile() || found.isDirectory()))
				throw new StillpointError("extension-invalid", `${full} is a link or a special file`, {
					details: { path: full },
				});
			if (process.getuid?.() === 0 && (found.uid !== 0 || (found.mode & 0o022) !== 0))
				throw new StillpointError("untrusted-path", `${full} could be changed by someone who is not root`, {
					details: { path: full },
				});
			if (found.isDirectory()) {
				await walk(path);
				continue;
			}
			sum.bytes += found.size;
			if (files.length >= maxFiles || sum.bytes > maxBytes)
				throw new StillpointError(
					"extension-invalid",
					`${folder} has more than ${maxFiles} files or ${maxBytes} bytes`,
				);
			const isExecutable = (found.mode & 0o100) !== 0;
			hash.update(`${path}\0${isExecutable ? "x" : "-"}${found.size}\0`);
			for await (const chunk of createReadStream(full)) hash.update(chunk as Buffer);
			files.push({ path, isExecutable });
		}
	}
}
