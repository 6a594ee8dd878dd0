import { constants } from "node:fs";
import { type FileHandle, lstat, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile } from "./replace-file.ts";

/** Azure's limits of `CommandExecution.log` and of what is kept of one command's output. */
const maxLogBytes = 10 * 1024 * 1024;
const tailBytes = 3_200;

export function commandLogPath(logFolder: string, instance: string | undefined): string {
	return join(logFolder, instance === undefined ? "CommandExecution.log" : `CommandExecution_${instance}.log`);
}

/** Where a command and the daemon that it may leave write to: a file, so that a daemon outlives the agent. */
export function commandOutputPath(logFolder: string, what: string, instance: string | undefined): string {
	return join(logFolder, instance === undefined ? `${what}.out` : `${what}_${instance}.out`);
}

/** Emptied, to be appended to: a daemon of an earlier run may write to it still. */
export async function openOutput(path: string): Promise<FileHandle> {
	const file = await openRegular(path);
	await file.truncate(0);
	return file;
}

/** Cut at its head, at a line, when it grew over the limit. */
export async function appendCommandLog(path: string, text: string, maxBytes = maxLogBytes): Promise<void> {
	let file = await openRegular(path);
	try {
		const { size } = await file.stat();
		const added = Buffer.byteLength(text);
		if (size + added > maxBytes) {
			const kept = await readTail(path, Math.max(0, Math.floor(maxBytes / 2) - added));
			await replaceFile(path, `(older lines were cut)\n${kept.slice(kept.indexOf("\n") + 1)}`);
			await file.close();
			file = await openRegular(path);
		}
		await file.appendFile(text);
	} finally {
		await file.close();
	}
}

/** The end of a file, at most `maxBytes`; empty when there is none. */
export async function readTail(path: string, maxBytes = tailBytes): Promise<string> {
	try {
		await using file = await open(path, constants.O_RDONLY | dontWait);
		const found = await file.stat();
		if (!found.isFile()) return "";
		const buffer = Buffer.alloc(Math.min(found.size, maxBytes));
		const { bytesRead } = await file.read(buffer, 0, buffer.length, found.size - buffer.length);
		return buffer.subarray(0, bytesRead).toString("utf8");
	} catch {
		return "";
	}
}

const dontWait = constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** For appending. The folder is the handler's, too: a link, a pipe or a folder of that name is taken away first. */
async function openRegular(path: string): Promise<FileHandle> {
	const found = await lstat(path).catch(() => undefined);
	if (found !== undefined && !found.isFile()) await rm(path, { recursive: true, force: true });
	return await open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | dontWait, 0o600);
}
