import { readFile } from "node:fs/promises";

/** `rdev` as glibc's makedev packs it; the size is in sectors of 512 bytes whatever the device's own sectors are. */
export async function readBlockDeviceBytes(rdev: number): Promise<number> {
	const major = (rdev >>> 8) & 0xfff;
	const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
	return Number(await readFile(`/sys/dev/block/${major}:${minor}/size`, "utf8")) * 512;
}
