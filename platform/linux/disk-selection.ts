import { StillpointError } from "../../contracts/errors.ts";
import type { DiskSelection } from "../../contracts/order.ts";
import type { BlockDevice } from "./block-devices.ts";
import { isRootDisk, type StackGraph } from "./stack-graph.ts";

/** Which disks are part of a job, as device numbers. */
export type SelectedDisks = {
	readonly included: ReadonlySet<string>;
	/** Temp disks that are not included. */
	readonly temp: ReadonlySet<string>;
};

// Block devices without a medium of their own: memory, loops over files that no path reaches, drives for media.
const noDisk = /^(loop|ram|zram|sr|fd)\d+$/;

/**
 * `all` and `exclude` speak of the disks at the bottom of the stack; `include` may name any disk, also a loop device
 * or a logical volume.
 * @throws `disk-unknown` naming what no disk is called, or what is a partition.
 */
export function selectDisks(
	selection: DiskSelection,
	devices: readonly BlockDevice[],
	graph: StackGraph,
	tempDisks: readonly string[],
): SelectedDisks {
	const temp = new Set(devices.filter((device) => isNamed(device, tempDisks)).map((device) => device.number));
	if (typeof selection === "object" && "include" in selection) {
		const included = new Set(selection.include.map((name) => requireDisk(name, devices)));
		return { included, temp: new Set([...temp].filter((number) => !included.has(number))) };
	}
	const excluded = new Set(selection === "all" ? [] : selection.exclude.map((name) => requireDisk(name, devices)));
	const included = devices
		.filter((device) => isBottomDisk(device, graph) && !temp.has(device.number) && !excluded.has(device.number))
		.map((device) => device.number);
	return { included: new Set(included), temp };
}

/** A disk of the machine, which a snapshot from outside can take. */
export function isBottomDisk(device: BlockDevice, graph: StackGraph): boolean {
	const node = graph.get(device.number);
	return node !== undefined && isRootDisk(node) && device.sizeBytes > 0 && !noDisk.test(device.name);
}

function requireDisk(name: string, devices: readonly BlockDevice[]): string {
	const found = devices.filter((device) => isNamed(device, [name]));
	const [device, another] = found;
	if (device === undefined)
		throw new StillpointError("disk-unknown", `there is no disk ${name}`, { details: { disk: name } });
	if (another !== undefined)
		throw new StillpointError("disk-unknown", `${device.name} and ${another.name} are both ${name}`, {
			details: { disk: name },
		});
	if (device.partitionOf !== undefined)
		throw new StillpointError("disk-unknown", `${name} is a partition, not a disk`, { details: { disk: name } });
	return device.number;
}

function isNamed(device: BlockDevice, names: readonly string[]): boolean {
	return (
		names.includes(device.name) ||
		(device.mapperName !== undefined && names.includes(device.mapperName)) ||
		(device.serial !== undefined && names.includes(`serial:${device.serial}`))
	);
}
