import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { type ErrorCode, StillpointError } from "../contracts/errors.ts";

/** What a file must be to be read. Whatever else lies there is told with `code`, by its path. */
export type SmallFile = {
	readonly code: ErrorCode;
	readonly limitBytes: number;
	/** The name itself must be the file. Links in the folders above it are followed. */
	readonly refuseLinks?: boolean;
	/** It must belong to who runs this, and nobody else may write to it. */
	readonly ownOnly?: boolean;
	/** Nobody else may even read it. */
	readonly secret?: boolean;
};

/**
 * The text of a regular file of UTF-8, without a byte order mark; undefined when there is none. Never waits for a
 * FIFO or a device, and never reads more than the limit and one byte.
 * @throws `is.code`
 */
export async function findSmallFile(path: string, is: SmallFile): Promise<string | undefined> {
	let file: FileHandle;
	try {
		file = await open(path, openFlags(is));
	} catch (error) {
		return absentOr(path, is, error);
	}
	await using opened = file;
	try {
		const stats = await opened.stat();
		const buffer = bufferFor(stats, path, is);
		let length = 0;
		for (let read = -1; read !== 0 && length < buffer.length; length += read)
			read = (await opened.read(buffer, length, buffer.length - length)).bytesRead;
		return decode(buffer.subarray(0, length), stats, path, is);
	} catch (error) {
		throw asFault(path, is, error);
	}
}

/** The same for files on tmpfs, and for what is read before anything else runs. */
export function findSmallFileSync(path: string, is: SmallFile): string | undefined {
	let file: number;
	try {
		file = openSync(path, openFlags(is));
	} catch (error) {
		return absentOr(path, is, error);
	}
	try {
		const stats = fstatSync(file);
		const buffer = bufferFor(stats, path, is);
		let length = 0;
		for (let read = -1; read !== 0 && length < buffer.length; length += read)
			read = readSync(file, buffer, length, buffer.length - length, null);
		return decode(buffer.subarray(0, length), stats, path, is);
	} catch (error) {
		throw asFault(path, is, error);
	} finally {
		closeSync(file);
	}
}

function openFlags(is: SmallFile): number {
	// Without O_NONBLOCK the open of a FIFO waits for its writer.
	return constants.O_RDONLY | constants.O_NONBLOCK | (is.refuseLinks === true ? constants.O_NOFOLLOW : 0);
}

/** One byte more than the file has, so that one that grows is noticed. */
function bufferFor(stats: Stats, path: string, is: SmallFile): Buffer {
	if (!stats.isFile()) throw fault(path, is, "is not a regular file");
	if (is.ownOnly === true && stats.uid !== process.geteuid?.()) throw fault(path, is, `belongs to uid ${stats.uid}`);
	if (is.ownOnly === true && (stats.mode & 0o022) !== 0) throw fault(path, is, "can be written by others");
	if (is.secret === true && (stats.mode & 0o077) !== 0) throw fault(path, is, "must have the mode 0600");
	if (stats.size > is.limitBytes) throw fault(path, is, `is larger than ${is.limitBytes} bytes`);
	return Buffer.allocUnsafe(stats.size + 1);
}

function decode(content: Buffer, stats: Stats, path: string, is: SmallFile): string {
	if (content.length > stats.size) throw fault(path, is, "changes while it is read");
	try {
		return new TextDecoder("utf-8", { fatal: true }).decode(content);
	} catch (cause) {
		throw fault(path, is, "is not UTF-8", cause);
	}
}

function absentOr(path: string, is: SmallFile, error: unknown): undefined {
	if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
	throw asFault(path, is, error);
}

function asFault(path: string, is: SmallFile, error: unknown): StillpointError {
	if (error instanceof StillpointError) return error;
	const { code } = error as NodeJS.ErrnoException;
	if (code === "ELOOP" && is.refuseLinks === true) return fault(path, is, "is a symbolic link", error);
	return fault(path, is, `cannot be read (${code ?? String(error)})`, error);
}

function fault(path: string, is: SmallFile, what: string, cause?: unknown): StillpointError {
	return new StillpointError(is.code, `${path} ${what}`, {
		...(cause === undefined ? {} : { cause }),
		details: { path },
	});
}
