import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../contracts/errors.ts";

// sys/file.h
const LOCK_EX = 2;
const LOCK_NB = 4;
const pollMs = 100;

/**
 * The lock of a file (flock): of one process at a time, and gone with it however it ends. The file stays.
 * @throws `deadline-passed`, `state-unusable`, or the signal's reason
 */
export async function takeFileLock(path: string, limitMs: number, signal?: AbortSignal): Promise<AsyncDisposable> {
	const deadline = performance.now() + limitMs;
	for (;;) {
		signal?.throwIfAborted();
		const lock = await findFileLock(path);
		if (lock !== undefined) return lock;
		if (performance.now() >= deadline) {
			throw new StillpointError("deadline-passed", `${path} was held by another for ${limitMs} ms`);
		}
		await sleep(pollMs);
	}
}

/** Undefined: another process holds it. @throws `state-unusable` */
export async function findFileLock(path: string): Promise<AsyncDisposable | undefined> {
	const { default: koffi } = await import("koffi");
	const flock = koffi.load(null).func("int flock(int fd, int operation)");
	let file: FileHandle;
	try {
		file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o600);
	} catch (cause) {
		throw new StillpointError("state-unusable", `${path}: ${(cause as Error).message}`, { cause });
	}
	if (flock(file.fd, LOCK_EX | LOCK_NB) === 0) return { [Symbol.asyncDispose]: () => file.close() };
	await file.close();
	return undefined;
}
