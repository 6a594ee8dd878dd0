import { readFile, stat } from "node:fs/promises";
import { type BlockDevice, findDeviceNumber, readBlockDevices } from "./block-devices.ts";
import { kindOfFileSystem, parseNoDeviceTypes } from "./file-system-types.ts";
import type { FreezeCalls } from "./freeze-calls.ts";
import { type LiveSuperblocks, readLiveSuperblocks } from "./live-superblocks.ts";
import { findLoopCarrier } from "./loop-carrier.ts";
import { findMountOf, indexMounts } from "./mount-lookup.ts";
import { type NamespaceMounts, readOtherMountNamespaces } from "./mount-namespaces.ts";
import { type Mount, readMountTable } from "./mount-table.ts";
import { findOpenDescriptors } from "./open-descriptors.ts";
import { readSuperblockFacts } from "./superblock-uuid.ts";
import { readSwaps, type Swap } from "./swaps.ts";

/** Where a mounted file system stores. */
export type FileSystemStorage = {
	readonly superblock: string;
	readonly fsType: string;
	readonly uuid?: string;
	/** Devices that hold a superblock with the UUID: one, or each btrfs member. */
	readonly devices: readonly string[];
	/** External journal, log or realtime device. */
	readonly extraDevices: readonly string[];
	/** It has block storage, but on which devices could not be learnt. */
	readonly unknown: boolean;
};

/** All that a plan is made from, read once. Device and superblock numbers are "MAJOR:MINOR". */
export type StorageFacts = {
	readonly mounts: readonly Mount[];
	readonly namespaces: readonly NamespaceMounts[];
	readonly devices: readonly BlockDevice[];
	readonly fileSystems: readonly FileSystemStorage[];
	/** Loop device to the superblock that carries its file; null: it could not be learnt. */
	readonly loopCarriers: Readonly<Record<string, string | null>>;
	/** Paths through other processes to superblocks that every mount of is hidden by another. */
	readonly descriptors: Readonly<Record<string, readonly string[]>>;
	/** Types that are on no block device. */
	readonly noDeviceTypes: ReadonlySet<string>;
	readonly swaps: readonly (Swap & { readonly device?: string; readonly carrier?: string })[];
	/** Alive in the kernel, but in no mount table that can be read: lazily unmounted, or in a namespace without a process. */
	readonly unmounted: readonly {
		readonly fsType: string;
		readonly devices: readonly string[];
		readonly uuid?: string;
	}[];
};

export type ReadStorageFacts = {
	readonly calls: Pick<FreezeCalls, "readLoopStatus">;
	/** Aborted: what has been learnt until then is all; a device that does not answer is of unknown UUID. */
	readonly signal: AbortSignal;
};

/**
 * Reads mount tables of all namespaces, sysfs, and the superblock of each mounted device. Never touches a network
 * mount.
 */
export async function readStorageFacts({ calls, signal }: ReadStorageFacts): Promise<StorageFacts> {
	const [mounts, namespaces, devices, live, swapList, noDevice] = await Promise.all([
		readMountTable("self"),
		readOtherMountNamespaces(signal),
		readBlockDevices(),
		readLiveSuperblocks(),
		readSwaps().catch(() => []),
		readFile("/proc/filesystems", "utf8").then(parseNoDeviceTypes),
	]);
	const everyMount = [...mounts, ...namespaces.flatMap((namespace) => namespace.mounts)];
	const onePerSuperblock = [...new Map(everyMount.map((mount) => [mount.superblock, mount])).values()];
	const fileSystems = await Promise.all(
		onePerSuperblock.map((mount) => readFileSystemStorage(mount, { devices, live, noDevice, signal })),
	);
	const loops = devices.filter((device) => device.backingFile !== undefined);
	const carriers = await Promise.all(
		loops.map(async (loop) => [loop.number, await findLoopCarrier(loop, { mounts, namespaces, calls })] as const),
	);
	const swaps = await Promise.all(
		swapList.map(async (swap) => {
			const device = swap.isFile ? undefined : await findDeviceNumber(swap.path, devices);
			const carrier = swap.isFile ? findMountOf(mounts, swap.path)?.superblock : undefined;
			return { ...swap, ...(device === undefined ? {} : { device }), ...(carrier === undefined ? {} : { carrier }) };
		}),
	);
	return {
		mounts,
		namespaces,
		devices,
		fileSystems,
		descriptors: await findOpenDescriptors(findHidden(mounts, namespaces, fileSystems), signal),
		loopCarriers: Object.fromEntries(carriers.map(([number, carrier]) => [number, carrier ?? null])),
		noDeviceTypes: noDevice,
		swaps,
		unmounted: findUnmounted(live, devices, fileSystems),
	};
}

/** Mounts of superblocks with storage that no table shows a way to. */
function findHidden(
	mounts: readonly Mount[],
	namespaces: readonly NamespaceMounts[],
	fileSystems: readonly FileSystemStorage[],
): Mount[] {
	const tables = [mounts, ...namespaces.map((namespace) => namespace.mounts)];
	const visible = new Set(
		tables.flatMap((table) => table.filter(indexMounts(table).isVisible).map((mount) => mount.superblock)),
	);
	const stored = new Set(fileSystems.filter((one) => one.devices.length > 0).map((one) => one.superblock));
	return tables.flat().filter(({ superblock }) => stored.has(superblock) && !visible.has(superblock));
}

type Surroundings = {
	readonly devices: readonly BlockDevice[];
	readonly live: LiveSuperblocks;
	readonly noDevice: ReadonlySet<string>;
	readonly signal: AbortSignal;
};

async function readFileSystemStorage(mount: Mount, around: Surroundings): Promise<FileSystemStorage> {
	const { superblock, fsType } = mount;
	const none = { superblock, fsType, devices: [], extraDevices: [], unknown: false };
	const kind = kindOfFileSystem(mount, around.noDevice);
	if (kind !== "freezable" && kind !== "unsupported") return none;
	if (fsType === "btrfs") {
		const source = await findSourceNumber(mount, around.devices);
		const found = around.live.btrfs.find(({ members }) => source !== undefined && members.includes(source));
		if (found !== undefined) return { ...none, uuid: found.uuid, devices: found.members };
		return { ...none, unknown: true };
	}
	const device = around.devices.find((one) => one.number === superblock);
	if (device === undefined) return { ...none, unknown: true };
	const facts = await settledWithin(readSuperblockFacts(`/dev/${device.name}`), around.signal);
	const logs = await Promise.all(externalDevicePaths(mount).map((path) => findDeviceNumber(path, around.devices)));
	const extra = [facts?.journalDevice, ...logs].filter((one) => one !== undefined);
	return {
		...none,
		...(facts?.uuid === undefined ? {} : { uuid: facts.uuid }),
		devices: [superblock],
		extraDevices: extra,
		unknown: logs.includes(undefined),
	};
}

/** XFS tells its log and realtime devices as mount options. */
function externalDevicePaths(mount: Mount): string[] {
	if (mount.fsType !== "xfs") return [];
	return mount.superOptions.flatMap((option) => /^(?:logdev|rtdev)=(.+)$/.exec(option)?.[1] ?? []);
}

/** A btrfs has an anonymous number of its own, so its member is found by the path that was mounted. */
async function findSourceNumber(mount: Mount, devices: readonly BlockDevice[]): Promise<string | undefined> {
	const byName = await findDeviceNumber(mount.source, devices);
	if (byName !== undefined || !mount.source.startsWith("/dev/")) return byName;
	const stats = await stat(mount.source, { bigint: true }).catch(() => undefined);
	if (stats === undefined || !stats.isBlockDevice()) return undefined;
	const major = (stats.rdev >> 8n) & 0xfffn;
	const minor = (stats.rdev & 0xffn) | ((stats.rdev >> 12n) & 0xfff00n);
	return `${major}:${minor}`;
}

function findUnmounted(
	live: LiveSuperblocks,
	devices: readonly BlockDevice[],
	fileSystems: readonly FileSystemStorage[],
): StorageFacts["unmounted"] {
	const mounted = new Set(fileSystems.flatMap((one) => one.devices));
	const onDevice = live.onDevice.flatMap(({ fsType, device }) => {
		const number = devices.find((one) => one.name === device)?.number;
		return number === undefined || mounted.has(number) ? [] : [{ fsType, devices: [number] }];
	});
	const btrfs = live.btrfs
		.filter(({ members }) => members.length > 0 && !members.some((member) => mounted.has(member)))
		.map(({ uuid, members }) => ({ fsType: "btrfs", devices: members, uuid }));
	return [...onDevice, ...btrfs];
}

async function settledWithin<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
	const late = Promise.withResolvers<undefined>();
	const onAbort = (): void => late.resolve(undefined);
	signal.addEventListener("abort", onAbort, { once: true });
	if (signal.aborted) onAbort();
	try {
		return await Promise.race([work.catch(() => undefined), late.promise]);
	} finally {
		signal.removeEventListener("abort", onAbort);
	}
}
