import type { NotCovered } from "../../contracts/report.ts";
import type { BlockDevice } from "./block-devices.ts";
import { isBottomDisk, type SelectedDisks } from "./disk-selection.ts";
import type { StackGraph } from "./stack-graph.ts";
import type { StorageFacts } from "./storage-facts.ts";

export type PlannedDisk = {
	readonly name: string;
	readonly number: string;
	readonly serial?: string;
	readonly sizeBytes: number;
	readonly included: boolean;
	/** UUIDs of mounted file systems that must be found directly on the disk's image or in its partitions. */
	readonly fileSystemUuids: readonly string[];
};

/** The disks of the machine, and those that the order names besides. */
export function describeDisks(facts: StorageFacts, graph: StackGraph, { included }: SelectedDisks): PlannedDisk[] {
	return facts.devices
		.filter((device) => included.has(device.number) || isBottomDisk(device, graph))
		.map((device) => ({
			name: device.name,
			number: device.number,
			...(device.serial === undefined ? {} : { serial: device.serial }),
			sizeBytes: device.sizeBytes,
			included: included.has(device.number),
			fileSystemUuids: facts.fileSystems
				.filter((one) => one.uuid !== undefined && one.devices.some((number) => isOn(number, device, facts.devices)))
				.map((one) => one.uuid ?? ""),
		}));
}

function isOn(number: string, disk: BlockDevice, devices: readonly BlockDevice[]): boolean {
	return number === disk.number || devices.find((one) => one.number === number)?.partitionOf === disk.number;
}

export function disksLeftOut(facts: StorageFacts, graph: StackGraph, { included, temp }: SelectedDisks): NotCovered[] {
	return facts.devices
		.filter((device) => isBottomDisk(device, graph) && !included.has(device.number))
		.map((device) => ({
			what: device.name,
			why: temp.has(device.number) ? ("temp-disk" as const) : ("disk-not-included" as const),
		}));
}
