import { appendFile, open, stat } from "node:fs/promises";
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

/** Cut at its head, at a line, when it grew over the limit. */
export async function appendCommandLog(path: string, text: string, maxBytes = maxLogBytes): Promise<void> {
	const size = await stat(path).then(
		(found) => found.size,
		() => 0,
	);
	const added = Buffer.byteLength(text);
	if (size + added > maxBytes) {
		const kept = await readTail(path, Math.max(0, Math.floor(maxBytes / 2) - added));
		await replaceFile(path, `(older lines were cut)\n${kept.slice(kept.indexOf("\n") + 1)}`);
	}
	await appendFile(path, text, { mode: 0o600 });
}

/** The end of a file, at most `maxBytes`; empty when there is none. */
export async function readTail(path: string, maxBytes = tailBytes): Promise<string> {
	try {
		await using file = await open(path, "r");
		const { size } = await file.stat();
		const buffer = Buffer.alloc(Math.min(size, maxBytes));
		const { bytesRead } = await file.read(buffer, 0, buffer.length, size - buffer.length);
		return buffer.subarray(0, bytesRead).toString("utf8");
	} catch {
		return "";
	}
}
