import { posix } from "node:path";
import type { FileSystemFilter, FileSystemFilters } from "../../contracts/extension.ts";
import type { BlockDevice } from "./block-devices.ts";
import type { MountedSuperblock } from "./mounted-superblocks.ts";
import type { FileSystemStorage } from "./storage-facts.ts";

type Filtered = {
	readonly mounted: MountedSuperblock;
	readonly storage: FileSystemStorage | undefined;
	readonly devices: readonly BlockDevice[];
};

/** Whether local configuration lets it be frozen: what an include filter matches, if there are any, and no exclude filter. */
export function isWanted(one: Filtered, { include, exclude }: FileSystemFilters): boolean {
	const { mounted } = one;
	const names = deviceNames(one);
	function fits(filter: FileSystemFilter): boolean {
		const { mountPoint, fsType, device } = filter;
		if (mountPoint !== undefined && !mounted.mountPoints.some((path) => posix.matchesGlob(path, mountPoint)))
			return false;
		if (fsType !== undefined && mounted.fsType !== fsType) return false;
		return device === undefined || names.has(device);
	}
	return (include.length === 0 || include.some(fits)) && !exclude.some(fits);
}

function deviceNames({ mounted, storage, devices }: Filtered): ReadonlySet<string> {
	const own = devices.filter((device) => storage?.devices.includes(device.number));
	const names = own.flatMap(({ name, mapperName }) => [
		name,
		`/dev/${name}`,
		...(mapperName === undefined ? [] : [mapperName, `/dev/mapper/${mapperName}`]),
	]);
	return new Set([...names, mounted.source]);
}
