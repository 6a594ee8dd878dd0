import { readFileSync } from "node:fs";
import { readdir, readFile, readlink, realpath } from "node:fs/promises";
import { basename, dirname } from "node:path";

/** A block device as /sys/dev/block/MAJOR:MINOR tells. */
export type BlockDevice = {
	/** "MAJOR:MINOR". */
	readonly number: string;
	/** Kernel name: `vda`, `vda1`, `loop3`, `dm-0`. */
	readonly name: string;
	/** Number of the whole disk, when this is a partition. */
	readonly partitionOf?: string;
	/** What it is built of: device mapper, md, bcache. */
	readonly slaves: readonly string[];
	/** Loop devices: the path of the file behind it, as its opener saw it. */
	readonly backingFile?: string;
	/** Device mapper: the name below /dev/mapper. */
	readonly mapperName?: string;
	readonly serial?: string;
	readonly sizeBytes: number;
	readonly readOnly: boolean;
};

const sysfs = "/sys/dev/block";

/** All block devices. Reads sysfs only; a device that goes away meanwhile is left out. */
export async function readBlockDevices(from = sysfs): Promise<BlockDevice[]> {
	const numbers = await readdir(from);
	const devices = await Promise.all(numbers.map((number) => readBlockDevice(from, number).catch(() => undefined)));
	return devices.filter((device) => device !== undefined);
}

async function readBlockDevice(from: string, number: string): Promise<BlockDevice> {
	const folder = await realpath(`${from}/${number}`);
	const partition = (await readWord(`${folder}/partition`)) !== undefined;
	const partitionOf = partition ? await readWord(`${dirname(folder)}/dev`) : undefined;
	const backingFile = partition ? undefined : await readLine(`${folder}/loop/backing_file`);
	const mapperName = partition ? undefined : await readWord(`${folder}/dm/name`);
	const serial = partition ? undefined : await readSerial(folder);
	return {
		number,
		// The kernel writes "/" in a device's name as "!" in sysfs.
		name: basename(folder).replaceAll("!", "/"),
		slaves: partition ? [] : await readSlaves(folder),
		sizeBytes: Number((await readWord(`${folder}/size`)) ?? 0) * 512,
		readOnly: (await readWord(`${folder}/ro`)) === "1",
		...(partitionOf === undefined ? {} : { partitionOf }),
		...(backingFile === undefined ? {} : { backingFile }),
		...(mapperName === undefined ? {} : { mapperName }),
		...(serial === undefined ? {} : { serial }),
	};
}

/**
 * Sectors that were written to the device since boot: stands still when nothing wrote. Not the number of writes: a
 * flush without data, as any fsync makes, counts as one of those.
 * @throws when the device keeps no such count (`queue/iostats` is 0: it would stand still whatever happens).
 */
export async function readWriteCount(number: string): Promise<number> {
	const [stat, counting] = await Promise.all([readFile(`${sysfs}/${number}/stat`, "utf8"), readCounting(number)]);
	if (!counting) throw new Error(`${number} keeps no count of its writes`);
	return parseWriteCount(stat);
}

/** The same at once, for the held window: sysfs never waits for a disk. Undefined: the device has none. */
export function findWriteCount(number: string): number | undefined {
	try {
		return parseWriteCount(readFileSync(`${sysfs}/${number}/stat`, "utf8"));
	} catch {
		return undefined;
	}
}

/** A partition is counted by the settings of its disk. */
async function readCounting(number: string): Promise<boolean> {
	const folder = await realpath(`${sysfs}/${number}`);
	const word = (await readWord(`${folder}/queue/iostats`)) ?? (await readWord(`${dirname(folder)}/queue/iostats`));
	return word === "1";
}

/** Documentation/block/stat.rst: the seventh field is sectors written. */
function parseWriteCount(stat: string): number {
	return Number(stat.trim().split(/\s+/)[6]);
}

async function readSlaves(folder: string): Promise<string[]> {
	const names = await readdir(`${folder}/slaves`).catch(() => []);
	const numbers = await Promise.all(names.map((name) => readWord(`${folder}/slaves/${name}/dev`)));
	return numbers.filter((number) => number !== undefined);
}

/** virtio: `serial`; NVMe: `device/serial`; SCSI: the unit serial number of VPD page 0x80, after a header of 4 bytes. */
async function readSerial(folder: string): Promise<string | undefined> {
	const plain = (await readWord(`${folder}/serial`)) ?? (await readWord(`${folder}/device/serial`));
	if (plain) return plain;
	const page = await readFile(`${folder}/device/vpd_pg80`).catch(() => undefined);
	const text = page?.subarray(4).toString("latin1").replaceAll("\0", "").trim();
	return text ? text : undefined;
}

async function readWord(path: string): Promise<string | undefined> {
	return (await readLine(path))?.trim() || undefined;
}

/** The content without its final newline; spaces may belong to a path. */
async function readLine(path: string): Promise<string | undefined> {
	const text = await readFile(path, "utf8").catch(() => undefined);
	return text === undefined ? undefined : text.replace(/\n$/, "");
}

/** The device number that a path below /dev leads to, by name only: nothing is opened. */
export async function findDeviceNumber(path: string, devices: readonly BlockDevice[]): Promise<string | undefined> {
	if (!path.startsWith("/dev/")) return undefined;
	const target = await readlink(path).then(
		() => realpath(path).catch(() => path),
		() => path,
	);
	const name = target.slice("/dev/".length);
	const mapped = path.startsWith("/dev/mapper/") ? path.slice("/dev/mapper/".length) : undefined;
	return devices.find((device) => device.name === name || (mapped !== undefined && device.mapperName === mapped))
		?.number;
}
