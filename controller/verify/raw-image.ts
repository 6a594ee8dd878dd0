import type { FileHandle } from "node:fs/promises";
import { constants, open } from "node:fs/promises";
import { StillpointError } from "../../contracts/errors.ts";
import { readBlockDeviceBytes } from "../block-device-size.ts";

/** Random reads of raw bytes. A read past the end is short, never an error. */
export type RawReader = {
	readonly sizeBytes: number;
	read(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
};

export type RawImage = RawReader & AsyncDisposable & { readonly path: string };

/**
 * Opens a raw image or block device for reading only.
 * @param options.follow whether a symbolic link is followed; never for names that come from a manifest.
 */
export async function openRawImage(path: string, options: { follow: boolean }): Promise<RawImage> {
	const flags = constants.O_RDONLY | constants.O_NONBLOCK | (options.follow ? 0 : constants.O_NOFOLLOW);
	const handle = await open(path, flags).catch((cause: unknown) => {
		throw new StillpointError("image-unreadable", `${path} cannot be opened`, { cause, details: { path } });
	});
	try {
		const sizeBytes = await readSize(handle, path);
		return {
			path,
			sizeBytes,
			read: (offsetBytes, lengthBytes) => readFully(handle, path, offsetBytes, lengthBytes),
			[Symbol.asyncDispose]: () => handle.close(),
		};
	} catch (error) {
		await handle.close();
		throw error;
	}
}

/** A part of an image as an image of its own; a part that reaches past the end is cut there. */
export function regionOf(whole: RawReader, offsetBytes: number, sizeBytes: number): RawReader {
	const size = Math.max(0, Math.min(sizeBytes, whole.sizeBytes - offsetBytes));
	return {
		sizeBytes: size,
		read: (offset, length) =>
			offset < 0 || offset >= size
				? Promise.resolve(Buffer.alloc(0))
				: whole.read(offsetBytes + offset, Math.min(length, size - offset)),
	};
}

async function readSize(handle: FileHandle, path: string): Promise<number> {
	const status = await handle.stat();
	if (status.isFile()) return status.size;
	if (!status.isBlockDevice()) {
		throw new StillpointError("image-unreadable", `${path} is neither a file nor a block device`);
	}
	return readBlockDeviceBytes(status.rdev);
}

async function readFully(handle: FileHandle, path: string, offset: number, length: number): Promise<Buffer> {
	if (!Number.isSafeInteger(offset) || offset < 0 || length <= 0) return Buffer.alloc(0);
	const buffer = Buffer.alloc(length);
	let filled = 0;
	while (filled < length) {
		const { bytesRead } = await handle
			.read(buffer, filled, length - filled, offset + filled)
			.catch((cause: unknown) => {
				throw new StillpointError("image-unreadable", `${path} cannot be read at ${offset + filled}`, { cause });
			});
		if (bytesRead === 0) return buffer.subarray(0, filled);
		filled += bytesRead;
	}
	return buffer;
}
