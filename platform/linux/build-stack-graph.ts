import { type FileSystemKind, kindOfFileSystem } from "./file-system-types.ts";
import { indexMounts } from "./mount-lookup.ts";
import type { Mount } from "./mount-table.ts";
import { fileSystemNode, type StackGraph, type StackNode } from "./stack-graph.ts";
import type { StorageFacts } from "./storage-facts.ts";

/** The stack graph of a machine: a node for each block device, and for each superblock that is mounted anywhere. */
export function buildStackGraph(facts: StorageFacts): StackGraph {
	const graph = new Map<string, StackNode>();
	for (const device of facts.devices) {
		const carrier = facts.loopCarriers[device.number];
		const lowers = device.partitionOf === undefined ? [...device.slaves] : [device.partitionOf];
		if (typeof carrier === "string") lowers.push(fileSystemNode(carrier));
		graph.set(device.number, {
			id: device.number,
			kind: "device",
			name: device.name,
			isDisk: device.partitionOf === undefined,
			lowers,
			storageUnknown: carrier === null,
		});
	}
	const overlayLowers = findOverlayLowers(facts);
	for (const one of facts.fileSystems) {
		const lowers = [...one.devices, ...one.extraDevices, ...(overlayLowers.get(one.superblock) ?? [])];
		const id = fileSystemNode(one.superblock);
		const storageUnknown = one.unknown || lowers.some((lower) => !lower.startsWith("fs:") && !graph.has(lower));
		graph.set(id, { id, kind: "file-system", name: one.fsType, isDisk: false, lowers, storageUnknown });
	}
	return graph;
}

/** An overlay has no storage of its own, but what lies on it lies on the file systems of its layers. */
function findOverlayLowers(facts: StorageFacts): Map<string, string[]> {
	const lowers = new Map<string, string[]>();
	for (const mounts of [facts.mounts, ...facts.namespaces.map((namespace) => namespace.mounts)]) {
		const lookup = indexMounts(mounts);
		for (const mount of mounts) {
			if (mount.fsType !== "overlay" || lowers.has(mount.superblock)) continue;
			const layers = overlayFolders(mount).flatMap((path) => lookup.find(path)?.superblock ?? []);
			lowers.set(mount.superblock, [...new Set(layers)].filter((one) => one !== mount.superblock).map(fileSystemNode));
		}
	}
	return lowers;
}

function overlayFolders(mount: Mount): string[] {
	return mount.superOptions.flatMap((option) => {
		const match = /^(lowerdir|lowerdir\+|upperdir|workdir)=(.+)$/.exec(option);
		return match?.[2]?.split(":").filter((path) => path.startsWith("/")) ?? [];
	});
}

export function kindsOf(facts: StorageFacts): Map<string, FileSystemKind> {
	const everyMount = [...facts.mounts, ...facts.namespaces.flatMap((namespace) => namespace.mounts)];
	return new Map(everyMount.map((mount) => [mount.superblock, kindOfFileSystem(mount, facts.noDeviceTypes)]));
}
