/** The bundle as a file: packed by tar(1), searched, compressed, and written for root alone. */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { execa } from "execa";
import { StillpointError } from "../../contracts/errors.ts";

const tarLimitMs = 60_000;
/** A tmpfs, when there is one: a bundle is wanted most when a disk does not answer. */
const sharedMemory = "/dev/shm";

export type BundleEntry = { readonly name: string; readonly text: string };

/** @throws `tool-missing` without tar; the entries lie in one folder called `name`. */
export async function packBundle(name: string, entries: readonly BundleEntry[]): Promise<Buffer> {
	const folder = await mkdtemp(join(existsSync(sharedMemory) ? sharedMemory : tmpdir(), "stillpoint-diagnose-"));
	try {
		for (const entry of entries) {
			const path = join(folder, name, entry.name);
			await mkdir(dirname(path), { recursive: true, mode: 0o700 });
			await writeFile(path, entry.text, { mode: 0o600 });
		}
		const words = [
			"--create",
			"--file=-",
			"--sort=name",
			"--owner=root:0",
			"--group=root:0",
			`--directory=${folder}`,
			name,
		];
		const { stdout } = await execa("tar", words, {
			encoding: "buffer",
			maxBuffer: 512 * 1024 * 1024,
			timeout: tarLimitMs,
		});
		return Buffer.from(stdout);
	} catch (cause) {
		if ((cause as NodeJS.ErrnoException).code === "ENOENT")
			throw new StillpointError("tool-missing", "tar (package tar)", { cause });
		throw cause;
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
}

/** How many of the secrets stand in it: as they are, as JSON or as part of an address. */
export function countSecrets(packed: Buffer, secrets: readonly string[]): number {
	return secrets.filter((one) =>
		[one, JSON.stringify(one).slice(1, -1), encodeURIComponent(one.toWellFormed())].some((form) =>
			packed.includes(form),
		),
	).length;
}

/**
 * Last look, then the file, mode 0600, which must not be there yet. Returns its size.
 * @throws `internal` when a secret of this machine stands in it: then nothing is written; `name-taken`, `state-unusable`
 */
export async function writeBundle(path: string, packed: Buffer, secrets: readonly string[]): Promise<number> {
	const left = countSecrets(packed, secrets);
	if (left > 0)
		throw new StillpointError(
			"internal",
			`${left} secrets of this machine would stand in the bundle; nothing was written`,
		);
	const content = gzipSync(new Uint8Array(packed));
	try {
		await using file = await open(path, "wx", 0o600);
		await file.writeFile(content);
	} catch (cause) {
		const { code, message } = cause as NodeJS.ErrnoException;
		if (code === "EEXIST") throw new StillpointError("name-taken", `${path} exists already`, { cause });
		throw new StillpointError("state-unusable", `${path}: ${message}`, { cause });
	}
	return content.length;
}
