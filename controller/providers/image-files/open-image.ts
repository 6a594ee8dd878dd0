import type { FileHandle } from "node:fs/promises";
import { open, readFile } from "node:fs/promises";
import { StillpointError } from "../../../contracts/errors.ts";

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
		file = await open(path, "r");
		const stat = await file.stat();
		const kind = stat.isFile() ? "file" : stat.isBlockDevice() ? "block-device" : undefined;
		if (kind === undefined) throw new Error("neither a file nor a block device");
		const sizeBytes = kind === "file" ? stat.size : await readBlockDeviceBytes(stat.rdev);
		if (sizeBytes === 0) throw new Error("it is empty");
		return { file, kind, sizeBytes, origin: kind === "file" ? stat.dev : stat.rdev };
	} catch (error) {
		await file?.close();
		const why = error instanceof Error ? error.message : String(error);
		throw new StillpointError("image-unreadable", `${path}: ${why}`, { cause: error, details: { image: path } });
	}
}

/** `rdev` as glibc's makedev packs it; the size is in sectors of 512 bytes whatever the device's own sectors are. */
async function readBlockDeviceBytes(rdev: number): Promise<number> {
	const major = (rdev >>> 8) & 0xfff;
	const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
	return Number(await readFile(`/sys/dev/block/${major}:${minor}/size`, "utf8")) * 512;
}
