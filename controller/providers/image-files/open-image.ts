import type { FileHandle } from "node:fs/promises";
import { constants, open, stat } from "node:fs/promises";
import { StillpointError } from "../../../contracts/errors.ts";
import { readBlockDeviceBytes } from "../../block-device-size.ts";

export type OpenImage = {
	readonly file: FileHandle;
	readonly kind: "file" | "block-device";
	readonly sizeBytes: number;
	/** `st_dev` of the file, `st_rdev` of the device: where the bytes come from. */
	readonly origin: number;
};

/** A raw image file or block device, for reading. `image-unreadable` names the path. */
export async function openImage(path: string): Promise<OpenImage> {
	let file: FileHandle | undefined;
	try {
		// Opening a pipe would else wait for its writer, for ever.
		file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
		const status = await file.stat();
		const kind = status.isFile() ? "file" : status.isBlockDevice() ? "block-device" : undefined;
		if (kind === undefined) throw new Error("neither a file nor a block device");
		const sizeBytes = kind === "file" ? status.size : await readBlockDeviceBytes(status.rdev);
		if (sizeBytes === 0) throw new Error("it is empty");
		return { file, kind, sizeBytes, origin: kind === "file" ? status.dev : status.rdev };
	} catch (error) {
		await file?.close();
		const why = error instanceof Error ? error.message : String(error);
		throw new StillpointError("image-unreadable", `${path}: ${why}`, { cause: error, details: { image: path } });
	}
}

/** Rejects when the path no longer leads to what was opened, or that has another size now. */
export async function requireUnchanged(path: string, { file, kind, sizeBytes }: OpenImage): Promise<void> {
	const [opened, named] = await Promise.all([file.stat(), stat(path)]);
	const same = kind === "file" ? opened.ino === named.ino && opened.dev === named.dev : opened.rdev === named.rdev;
	if (!same) throw new Error("it was replaced meanwhile");
	const nowBytes = kind === "file" ? opened.size : await readBlockDeviceBytes(opened.rdev);
	if (nowBytes !== sizeBytes) throw new Error(`it has ${nowBytes} bytes now, it had ${sizeBytes}`);
}
