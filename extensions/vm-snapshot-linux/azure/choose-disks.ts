import { azureError } from "./azure-codes.ts";
import { type AzureTask, osDiskLun } from "./azure-task.ts";
import type { LunDisk } from "./lun-disks.ts";

/**
 * The disks of a task, each by its name: never "all". A LUN that this machine has no disk for fails the task.
 * @throws `disk-unknown` (17)
 */
export function chooseDisks(task: Pick<AzureTask, "luns">, found: readonly LunDisk[]): LunDisk[] {
	const unknown = (what: string) => azureError("disk-unknown", 17, what);
	if (task.luns === undefined) {
		if (found.length === 0) throw unknown("no disk of this machine has a LUN of Azure");
		return distinct([...found]);
	}
	const wanted = task.luns.map((lun) => found.find((disk) => disk.lun === lun) ?? lun);
	const missing = wanted.filter((one) => typeof one === "number");
	if (missing.length > 0) throw unknown(`this machine has no disk with ${missing.map(nameOfLun).join(", ")}`);
	return distinct(wanted.filter((one) => typeof one !== "number"));

	function distinct(disks: LunDisk[]): LunDisk[] {
		if (new Set(disks.map(({ name }) => name)).size === disks.length) return disks;
		throw unknown("two LUNs lead to the same disk");
	}
}

function nameOfLun(lun: number): string {
	return lun === osDiskLun ? "the operating system" : `LUN ${lun}`;
}
