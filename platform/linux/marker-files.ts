import { constants } from "node:fs";
import { open, unlink } from "node:fs/promises";
import type { Readable, Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { loadFreezeCalls } from "./freeze-calls.ts";

export type MarkerRequest =
	| { readonly type: "write"; readonly content: string; readonly paths: readonly string[] }
	| { readonly type: "remove"; readonly paths: readonly string[] }
	/** Of folders: EBUSY is the answer of one whose file system is frozen. */
	| { readonly type: "probe-frozen"; readonly paths: readonly string[] };
/** The answer for `paths[index]`, a line of JSON each, in the order of their ends. */
export type MarkerAnswer = { readonly index: number; readonly errno?: string };

/** No marker of ours is longer; what lies there under its name may be somebody else's. */
const markerLimitBytes = 1024;

/** The work of the process behind `write-probe.ts`: one request on `input`, until its end; an answer for each path. */
export async function answerMarkerRequest(input: Readable, output: Writable): Promise<void> {
	const request = JSON.parse(await text(input)) as MarkerRequest;
	await Promise.all(
		request.paths.map(async (path, index) => {
			const errno = await answerOne(request, path);
			const answer: MarkerAnswer = { index, ...(errno === undefined ? {} : { errno }) };
			output.write(`${JSON.stringify(answer)}\n`);
		}),
	);
}

function answerOne(request: MarkerRequest, path: string): Promise<string | undefined> {
	switch (request.type) {
		case "write":
			return writeDurably(path, request.content);
		case "remove":
			return removeMarker(path);
		case "probe-frozen":
			return probeFrozen(path);
	}
}

async function probeFrozen(path: string): Promise<string | undefined> {
	try {
		const calls = await loadFreezeCalls();
		await using folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NONBLOCK);
		const answer = await calls.probeFrozen(folder.fd);
		if (answer === "frozen") return "EBUSY";
		return answer === "not-frozen" ? undefined : answer.error;
	} catch (error) {
		return errnoOf(error);
	}
}

/** A marker is never a link that somebody else laid there, nor a file that existed; a half-written one is taken back. */
async function writeDurably(path: string, content: string): Promise<string | undefined> {
	const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
	let made = false;
	try {
		await using file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
		made = true;
		await file.writeFile(content);
		await file.sync();
		return undefined;
	} catch (error) {
		if (made) await removeFile(path);
		return errnoOf(error);
	}
}

/**
 * Overwritten in place before it is unlinked: a copy that was still being made after the thaw then carries a marker
 * that is none, also when the folder's block was copied before.
 */
async function removeMarker(path: string): Promise<string | undefined> {
	try {
		await using file = await open(path, constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
		const { size } = await file.stat();
		await file.write(Buffer.alloc(Math.min(size, markerLimitBytes), " "), 0, undefined, 0);
		await file.datasync();
	} catch {
		// Best effort: on btrfs a full disk can't take the new block. What counts is that it goes.
	}
	return removeFile(path);
}

async function removeFile(path: string): Promise<string | undefined> {
	try {
		await unlink(path);
		return undefined;
	} catch (error) {
		const errno = errnoOf(error);
		return errno === "ENOENT" ? undefined : errno;
	}
}

function errnoOf(error: unknown): string {
	return (error as NodeJS.ErrnoException).code ?? "UNKNOWN";
}
