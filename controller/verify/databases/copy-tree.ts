import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, readlink, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Verdict } from "../found-file-system.ts";
import { firstLine, runTool } from "../image-tools.ts";

export type TreeCopy = {
	bytes: number;
	/** Names relative to the top of all regular files that were copied. */
	files: string[];
	/** Symbolic links, which are never copied: where they lie, relative to the top, and their text. */
	links: { name: string; target: string }[];
};

/** Left free on the scratch folder's file system, for what the server itself writes and for everybody else. */
export const reservedBytes = 512 << 20;
const mostFiles = 1_000_000;
const atOnce = 200;

/**
 * Copies folders and regular files, and nothing else, of a tree that a guest made: no link is followed and no special
 * file is opened. The tree must stand still: it lies on a read-only mount of our own. Answers with a verdict when it can't.
 */
export async function copyTree(from: Buffer, to: string, signal: AbortSignal): Promise<TreeCopy | Verdict> {
	try {
		await using top = await open(from, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
		// By way of the descriptor, because the path need not be UTF-8.
		const root = `/proc/${process.pid}/fd/${top.fd}`;
		const { copy, folders } = await listTree(root, signal);
		const { bavail, bsize } = await statfs(dirname(to));
		const room = bavail * bsize - reservedBytes;
		if (copy.files.length > mostFiles) return { status: "unknown", detail: `it has more than ${mostFiles} files` };
		if (copy.bytes > room) {
			const detail = `its ${copy.bytes} bytes are too many for the scratch folder (${Math.max(0, room)} are left)`;
			return { status: "unknown", detail };
		}
		for (const [folder, names] of folders) {
			await mkdir(join(to, folder), { recursive: true, mode: 0o700 });
			for (let at = 0; at < names.length; at += atOnce) {
				const sources = names.slice(at, at + atOnce).map((name) => join(root, folder, name));
				const args = [
					"--no-dereference",
					"--sparse=always",
					"--reflink=auto",
					`--target-directory=${join(to, folder)}`,
				];
				const copied = await runTool("cp", [...args, "--", ...sources], signal);
				if (copied.exitCode !== 0) return failedCopy(copied.failure ?? firstLine(copied.output));
			}
		}
		return copy;
	} catch (error) {
		signal.throwIfAborted();
		return failedCopy(error instanceof Error ? error.message : String(error));
	}
}

/** One regular file, as it lies. */
export async function copyFile(from: Buffer, to: string, signal: AbortSignal): Promise<{ bytes: number } | Verdict> {
	try {
		await using file = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
		const status = await file.stat();
		if (!status.isFile()) return failedCopy("no regular file");
		const source = `/proc/${process.pid}/fd/${file.fd}`;
		const copied = await runTool("cp", ["--sparse=always", "--reflink=auto", "--", source, to], signal);
		if (copied.exitCode !== 0) return failedCopy(copied.failure ?? firstLine(copied.output));
		return { bytes: status.size };
	} catch (error) {
		signal.throwIfAborted();
		return failedCopy(error instanceof Error ? error.message : String(error));
	}
}

function failedCopy(why: string): Verdict {
	const status = /No space left|ENOSPC|not installed|quota/i.test(why) ? "unknown" : "fail";
	return { status, detail: `can't be copied: ${why.replaceAll(/\/proc\/\d+\/fd\/\d+/g, "")}` };
}

async function listTree(root: string, signal: AbortSignal) {
	const copy: TreeCopy = { bytes: 0, files: [], links: [] };
	const folders = new Map<string, string[]>();
	const pending = [""];
	for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
		signal.throwIfAborted();
		const files: string[] = [];
		folders.set(folder, files);
		for (const bytes of await readdir(join(root, folder, "."), { encoding: "buffer" })) {
			const name = bytes.toString("utf8");
			// No server gives its files such a name.
			if (!Buffer.from(name).equals(bytes)) continue;
			const path = join(root, folder, name);
			const status = await lstat(path);
			if (status.isDirectory()) pending.push(join(folder, name));
			if (status.isSymbolicLink()) copy.links.push({ name: join(folder, name), target: await readlink(path) });
			if (!status.isFile()) continue;
			copy.bytes += status.size;
			copy.files.push(join(folder, name));
			files.push(name);
			if (copy.files.length > mostFiles) return { copy, folders };
		}
	}
	return { copy, folders };
}
