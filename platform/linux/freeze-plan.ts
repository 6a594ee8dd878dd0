import type { FileSystemFilters } from "../../contracts/extension.ts";
import type { DiskSelection } from "../../contracts/order.ts";
import type { NotCovered } from "../../contracts/report.ts";
import { buildStackGraph, kindsOf } from "./build-stack-graph.ts";
import { type SelectedDisks, selectDisks } from "./disk-selection.ts";
import { isWanted } from "./file-system-filters.ts";
import type { FileSystemKind } from "./file-system-types.ts";
import { freezeLevels } from "./freeze-levels.ts";
import { findMountOf } from "./mount-lookup.ts";
import { groupMounts, type MountedSuperblock, type Reach } from "./mounted-superblocks.ts";
import { describeDisks, disksLeftOut, type PlannedDisk } from "./planned-disks.ts";
import { covered, disksOf, fileSystemNode, reach, type StackGraph, touches } from "./stack-graph.ts";
import type { FileSystemStorage, StorageFacts } from "./storage-facts.ts";

export type { PlannedDisk } from "./planned-disks.ts";

export type FreezePlanOptions = {
	readonly facts: StorageFacts;
	readonly selection: DiskSelection;
	readonly filters: FileSystemFilters;
	/** Kernel names of temp or resource disks: left out unless the order names them. */
	readonly tempDisks: readonly string[];
	/** Folders whose file system is frozen last, inside what the stack allows; `/` always is. */
	readonly hostFolders: readonly string[];
};

/** A superblock that will be frozen. */
export type PlannedFileSystem = {
	readonly superblock: string;
	readonly fsType: string;
	readonly uuid?: string;
	/** Path of its (first) device. */
	readonly device: string;
	readonly mountPoint: string;
	/** Paths that lead to it from here, best first. */
	readonly reaches: readonly Reach[];
	/** Other mount points of the same superblock, of all mount namespaces. */
	readonly aliases: readonly string[];
	readonly level: number;
	/** Kernel names of the included disks that it has storage on. */
	readonly disks: readonly string[];
	/** It also has storage that lies on no included disk: `crash` at best. */
	readonly spans: boolean;
};

/** A file system with storage on an included disk that will not be frozen. */
export type LeftOutFileSystem = Omit<PlannedFileSystem, "reaches" | "level" | "aliases"> & {
	readonly why: NotCovered["why"];
	/** Something can be written to it in the window: its disks are worth `crash`. */
	readonly writable: boolean;
	/** Device numbers, to read their write counters. */
	readonly deviceNumbers: readonly string[];
	readonly reaches: readonly Reach[];
};

export type FreezePlan = {
	/** In the order of freezing. */
	readonly targets: readonly PlannedFileSystem[];
	readonly leftOut: readonly LeftOutFileSystem[];
	/** For the report: every file system and disk that the job does not make still, by name. */
	readonly notCovered: readonly NotCovered[];
	readonly disks: readonly PlannedDisk[];
	readonly graph: StackGraph;
};

/**
 * What to freeze for an order: every writable superblock with storage on an included disk, wherever it is mounted.
 * Pure: all that it knows is in `facts`.
 * @throws `disk-unknown`.
 */
export function planFreeze(options: FreezePlanOptions): FreezePlan {
	const { facts } = options;
	const graph = buildStackGraph(facts);
	const selected = selectDisks(options.selection, facts.devices, graph, options.tempDisks);
	const kinds = kindsOf(facts);
	const storages = new Map(facts.fileSystems.map((one) => [one.superblock, one]));
	const targets: Omit<PlannedFileSystem, "level">[] = [];
	const leftOut: LeftOutFileSystem[] = [];
	const notCovered: NotCovered[] = [];
	for (const mounted of groupMounts(facts)) {
		const kind = kinds.get(mounted.superblock) ?? "unsupported";
		const storage = storages.get(mounted.superblock);
		const why = judge({ mounted, kind, storage, options, graph, selected });
		if (why === "interface") continue;
		const described = describe(mounted, storage, facts, graph, selected.included);
		if (why === undefined) {
			targets.push({ ...described, reaches: mounted.reaches, aliases: mounted.aliases });
			if (described.spans) notCovered.push({ what: mounted.mountPoint, why: "spans-left-out-disk" });
			continue;
		}
		notCovered.push({ what: mounted.mountPoint, why, detail: `${mounted.fsType} on ${described.device}` });
		if (described.disks.length === 0) continue;
		const writable = why !== "read-only" && why !== "no-storage" && why !== "network";
		const deviceNumbers = storage?.devices ?? [];
		leftOut.push({ ...described, reaches: mounted.reaches, why, writable, deviceNumbers });
	}
	for (const one of unmountedOnes(facts, graph, selected.included)) {
		leftOut.push(one);
		notCovered.push({ what: one.device, why: "not-reached", detail: `${one.fsType}, in no mount table` });
	}
	notCovered.push(...swapsOn(facts, graph, selected.included), ...disksLeftOut(facts, graph, selected));
	const last = lastSuperblocks(facts, options.hostFolders, targets);
	const levels = freezeLevels(
		targets.map((one) => one.superblock),
		graph,
		last,
	);
	return {
		targets: targets
			.map((one) => ({ ...one, level: levels.get(one.superblock) ?? 0 }))
			.sort((a, b) => a.level - b.level || a.mountPoint.localeCompare(b.mountPoint)),
		leftOut,
		notCovered,
		disks: describeDisks(facts, graph, selected),
		graph,
	};
}

/** The targets that `folder` lies on, directly or through layers: writing there would hang while they are frozen. */
export function findTargetsBelow(plan: FreezePlan, facts: StorageFacts, folder: string): PlannedFileSystem[] {
	const mount = findMountOf(facts.mounts, folder);
	if (mount === undefined) return [];
	const below = new Set([...reach(plan.graph, fileSystemNode(mount.superblock))].map((node) => node.id));
	return plan.targets.filter((target) => below.has(fileSystemNode(target.superblock)));
}

type Judged = {
	readonly mounted: MountedSuperblock;
	readonly kind: FileSystemKind;
	readonly storage: FileSystemStorage | undefined;
	readonly options: FreezePlanOptions;
	readonly graph: StackGraph;
	readonly selected: SelectedDisks;
};

/** Undefined: it is to be frozen. */
function judge({
	mounted,
	kind,
	storage,
	options,
	graph,
	selected,
}: Judged): NotCovered["why"] | "interface" | undefined {
	if (kind === "interface" || kind === "network" || kind === "no-storage") return kind;
	const node = fileSystemNode(mounted.superblock);
	if (!touches(graph, node, selected.included))
		return touches(graph, node, selected.temp) ? "temp-disk" : "disk-not-included";
	if (mounted.readOnly) return "read-only";
	if (kind === "unsupported") return "unsupported-file-system";
	if (!isWanted({ mounted, storage, devices: options.facts.devices }, options.filters)) return "excluded-by-config";
	return mounted.reaches.length === 0 ? "not-reached" : undefined;
}

function describe(
	mounted: MountedSuperblock,
	storage: FileSystemStorage | undefined,
	facts: StorageFacts,
	graph: StackGraph,
	included: ReadonlySet<string>,
) {
	const node = fileSystemNode(mounted.superblock);
	const first = facts.devices.find((device) => device.number === storage?.devices[0]);
	return {
		superblock: mounted.superblock,
		fsType: mounted.fsType,
		...(storage?.uuid === undefined ? {} : { uuid: storage.uuid }),
		device: first === undefined ? mounted.source : `/dev/${first.name}`,
		mountPoint: mounted.mountPoint,
		disks: includedDisks(graph, node, included),
		spans: touches(graph, node, included) && !covered(graph, node, included),
	};
}

/** What may lie on any disk is counted on each. */
function includedDisks(graph: StackGraph, node: string, included: ReadonlySet<string>): string[] {
	const unknown = [...reach(graph, node)].some((one) => one.storageUnknown);
	const ids = unknown ? [...included] : disksOf(graph, node).filter((id) => included.has(id));
	return ids.map((id) => graph.get(id)?.name ?? id).sort();
}

function unmountedOnes(facts: StorageFacts, graph: StackGraph, included: ReadonlySet<string>): LeftOutFileSystem[] {
	return facts.unmounted.flatMap(({ fsType, devices, uuid }) => {
		const touched = devices.filter((device) => touches(graph, device, included));
		const [first] = devices;
		if (touched.length === 0 || first === undefined) return [];
		const device = `/dev/${graph.get(first)?.name ?? first}`;
		return [
			{
				superblock: first,
				fsType,
				...(uuid === undefined ? {} : { uuid }),
				device,
				mountPoint: device,
				disks: [...new Set(touched.flatMap((one) => includedDisks(graph, one, included)))].sort(),
				spans: !devices.every((one) => covered(graph, one, included)),
				reaches: [],
				why: "not-reached" as const,
				writable: true,
				deviceNumbers: devices,
			},
		];
	});
}

function swapsOn(facts: StorageFacts, graph: StackGraph, included: ReadonlySet<string>): NotCovered[] {
	return facts.swaps
		.filter(({ device, carrier }) => {
			const node = device ?? (carrier === undefined ? undefined : fileSystemNode(carrier));
			return node === undefined || touches(graph, node, included);
		})
		.map(({ path }) => ({ what: path, why: "swap" as const }));
}

function lastSuperblocks(
	facts: StorageFacts,
	hostFolders: readonly string[],
	targets: readonly Pick<PlannedFileSystem, "superblock">[],
): Set<string> {
	const wanted = ["/", ...hostFolders].flatMap((folder) => findMountOf(facts.mounts, folder)?.superblock ?? []);
	return new Set(wanted.filter((one) => targets.some((target) => target.superblock === one)));
}
