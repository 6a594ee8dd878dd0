/** The process behind `write-probe.ts`: one request as a line on stdin, an answer for each path on stdout. */
import { constants } from "node:fs";
import { open, unlink } from "node:fs/promises";
import { text } from "node:stream/consumers";

type Request =
	| { readonly type: "write"; readonly content: string; readonly paths: readonly string[] }
	| { readonly type: "remove"; readonly paths: readonly string[] };

const request = JSON.parse(await text(process.stdin)) as Request;
await Promise.all(request.paths.map(answer));

async function answer(path: string, index: number): Promise<void> {
	const errno = await (request.type === "write" ? write(path, request.content) : remove(path));
	process.stdout.write(`${JSON.stringify({ index, ...(errno === undefined ? {} : { errno }) })}\n`);
}

/** A marker of a hold is never a link that somebody else laid there, nor a file that existed. */
async function write(path: string, content: string): Promise<string | undefined> {
	const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
	try {
		await using file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
		await file.write(content);
		await file.sync();
		return undefined;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code ?? "UNKNOWN";
	}
}

async function remove(path: string): Promise<string | undefined> {
	try {
		await unlink(path);
		return undefined;
	} catch (error) {
		const code = (error as NodeJS.ErrnoException).code ?? "UNKNOWN";
		return code === "ENOENT" ? undefined : code;
	}
}
