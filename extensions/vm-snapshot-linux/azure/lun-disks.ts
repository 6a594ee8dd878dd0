/**
 * Which disk of this machine is which LUN of Azure: by the links of Azure's udev rules or azure-vm-utils, else by the
 * SCSI address in /sys. The platform gives a LUN when it attaches the disk, so it is the disk's name on both sides.
 */
import { readdir, readFile, readlink, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { osDiskLun } from "./azure-task.ts";

export type LunDisk = { readonly lun: number /** Kernel name, as in an order. */; readonly name: string };

export type WhereDisksAre = {
	/** `/dev/disk/azure`: `root` or `os`, `data/by-lun/N`, `scsi1/lunN`. */
	readonly linksFolder: string;
	/** `/sys`. */
	readonly sysFolder: string;
};

const osLinks = ["root", "os"];

// Device ids of the controllers that Azure gives a machine: the first SCSI one carries the OS disk of generation 2 as
// LUN 0 (and the temp disk), the second one the data disks; the IDE one carries the OS disk of generation 1.
const firstController = /^\{?f8b3781a-/i;
const dataController = /^\{?f8b3781b-/i;
const osController = /^\{?00000000-0000-/i;

/** The OS disk first, then by LUN. What has no LUN (the temp disk) is not among them. */
export async function findLunDisks(where: WhereDisksAre): Promise<LunDisk[]> {
	const byLinks = await findByLinks(where.linksFolder);
	const found = byLinks.size > 0 ? byLinks : await findByAddress(where.sysFolder);
	return [...found].map(([lun, name]) => ({ lun, name })).sort((a, b) => a.lun - b.lun);
}

async function findByLinks(folder: string): Promise<Map<number, string>> {
	const found = new Map<number, string>();
	const note = async (lun: number, link: string) => {
		const target = await realpath(link).catch(() => undefined);
		if (target !== undefined && !found.has(lun)) found.set(lun, basename(target));
	};
	for (const name of osLinks) await note(osDiskLun, join(folder, name));
	for (const [inside, shape] of [
		["data/by-lun", /^(\d{1,3})$/],
		["scsi1", /^lun(\d{1,3})$/],
	] as const) {
		for (const name of await namesIn(join(folder, inside))) {
			const lun = shape.exec(name)?.[1];
			if (lun !== undefined) await note(Number(lun), join(folder, inside, name));
		}
	}
	return found;
}

async function findByAddress(sysFolder: string): Promise<Map<number, string>> {
	const found = new Map<number, string>();
	for (const name of await namesIn(join(sysFolder, "block"))) {
		const link = join(sysFolder, "block", name, "device");
		const lunText = /:(\d+)$/.exec(basename(await readlink(link).catch(() => "")))?.[1];
		if (lunText === undefined) continue;
		const controller = await findControllerId(await realpath(link), sysFolder);
		if (controller === undefined) continue;
		const lun = Number(lunText);
		const isOs = osController.test(controller) || (firstController.test(controller) && lun === 0);
		if (isOs) found.set(osDiskLun, name);
		else if (dataController.test(controller)) found.set(lun, name);
	}
	return found;
}

/** `device_id` of the vmbus device that the disk hangs on. */
async function findControllerId(devicePath: string, sysFolder: string): Promise<string | undefined> {
	for (let path = devicePath; path.startsWith(`${sysFolder}/`); path = dirname(path)) {
		const id = await readFile(join(path, "device_id"), "utf8").catch(() => undefined);
		if (id !== undefined) return id.trim();
	}
	return undefined;
}

async function namesIn(folder: string): Promise<string[]> {
	return readdir(folder).catch(() => []);
}
