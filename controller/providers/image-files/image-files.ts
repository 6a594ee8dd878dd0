import { type FileHandle, open, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { type ErrorCode, StillpointError } from "../../../contracts/errors.ts";
import type { ImageIdentity, RecoveryPointDisk } from "../../../contracts/recovery-point.ts";
import { syncPath } from "../../state-folder.ts";
import type {
	DiskOutcome,
	PreparedSnapshot,
	PrepareRequest,
	SnapshotProvider,
	SourceDisk,
	TakenDisk,
} from "../provider.ts";
import { reflink, sampleCopy, tryReflink } from "./copy-method.ts";
import { type Extent, type FindData, loadFindData } from "./data-extents.ts";
import { type OpenImage, openImage, requireUnchanged } from "./open-image.ts";
import { predictCopyMs, type RememberedCopy, rememberedCopies } from "./predict-copy.ts";
import { copySparsely } from "./sparse-copy.ts";

export type ImageFilesOptions = {
	/** What lies on an image: file system UUIDs. */
	readonly readIdentity: (path: string) => Promise<ImageIdentity>;
};

type DiskPlan = {
	readonly disk: SourceDisk;
	readonly source: OpenImage;
	/** In the folder of the recovery point. */
	readonly image: string;
	readonly path: string;
} & (
	| { readonly method: "reflink"; readonly cloneMs: number }
	| {
			readonly method: "copy";
			readonly target: FileHandle;
			readonly extents: readonly Extent[];
			readonly bytes: number;
	  }
);
type CopyPlan = Extract<DiskPlan, { method: "copy" }>;

/** Room that is asked for besides the data itself: block lists of the target's file system. */
const spareBytes = 1024 * 1024;
/** A smaller copy says nothing about the rate of a larger one. */
const rememberedFromBytes = 8 * 1024 * 1024;

/**
 * Each disk is a raw file or block device on this host. A snapshot is a reflink where source and folder can share
 * blocks, and a sparse copy elsewhere: then the hold lasts as long as the copy, so its time is predicted.
 */
export async function makeImageFiles({ readIdentity }: ImageFilesOptions): Promise<SnapshotProvider> {
	const findData = await loadFindData();
	const remembered = new Map<string, RememberedCopy[]>();
	return {
		name: "image-files",
		prepare: (request) => prepareImages(request, findData, readIdentity, remembered),
		delete: (folder) => rm(folder, { recursive: true, force: true }),
	};
}

async function prepareImages(
	{ folder, disks, signal }: PrepareRequest,
	findData: FindData,
	readIdentity: ImageFilesOptions["readIdentity"],
	remembered: Map<string, RememberedCopy[]>,
): Promise<PreparedSnapshot> {
	await using undo = new AsyncDisposableStack();
	const plans: DiskPlan[] = [];
	for (const [index, disk] of disks.entries()) {
		signal.throwIfAborted();
		plans.push(await planDisk(disk, index, folder, findData, undo));
	}
	const copies = plans.filter((plan) => plan.method === "copy");
	const copyBytes = copies.reduce((sum, plan) => sum + plan.bytes, 0);
	await checkFreeSpace(folder, copyBytes);
	const route = [...new Set(copies.map((plan) => plan.source.origin))].sort().join();
	const predictedMs = Math.max(
		await predictCopies(copies, copyBytes, remembered.get(route), signal),
		...plans.map((plan) => (plan.method === "reflink" ? 10 + 2 * plan.cloneMs : 0)),
	);
	for (const plan of copies) await plan.target.truncate(plan.source.sizeBytes);
	const taken = new Map<string, number>();
	const identities = new Map<string, ImageIdentity>();
	const owned = undo.move();
	const running: { take?: Promise<unknown> } = {};
	// A clone or piece that is under way when the signal comes must not appear after the folder was removed.
	owned.defer(() => running.take?.then(() => undefined));

	return {
		predictedMs,
		take(stop, onTaken) {
			const taking = takeAll(plans, findData, stop, onTaken).then(({ outcomes, copyMs }) => {
				if (outcomes.every((one) => one.ok) && copyBytes >= rememberedFromBytes)
					remembered.set(
						route,
						[{ bytes: copyBytes, copyMs }, ...(remembered.get(route) ?? [])].slice(0, rememberedCopies),
					);
				for (const one of outcomes) if (one.ok) taken.set(one.name, one.copyMs);
				return outcomes;
			});
			running.take = taking;
			return taking;
		},
		async describe(stop) {
			for (const { disk, path } of plans) {
				stop.throwIfAborted();
				identities.set(disk.name, await readIdentity(path));
			}
			return [...identities].map(([name, identity]) => ({ name, identity }));
		},
		async keep(stop) {
			const kept: RecoveryPointDisk[] = [];
			for (const plan of plans) {
				stop.throwIfAborted();
				const { disk, image, method, source } = plan;
				await syncPath(plan.path).catch((error) => fail(error, `the image of ${disk.name}`));
				const copyMs = taken.get(disk.name) ?? 0;
				const identity = identities.get(disk.name) ?? { fileSystems: [] };
				kept.push({ name: disk.name, image, sizeBytes: source.sizeBytes, method, copyMs, identity });
			}
			await syncPath(folder);
			return kept;
		},
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

async function planDisk(
	disk: SourceDisk,
	index: number,
	folder: string,
	findData: FindData,
	undo: AsyncDisposableStack,
): Promise<DiskPlan> {
	const source = await openImage(disk.image);
	undo.defer(() => source.file.close());
	// The name comes from the agent: it must not become a path.
	const image = `${index}-${disk.name.replaceAll(/[^A-Za-z0-9_-]/g, "_").slice(0, 64)}.raw`;
	const path = join(folder, image);
	try {
		if (source.kind === "file") {
			const cloneMs = await tryReflink(disk.image, path);
			if (cloneMs !== undefined) return { disk, source, image, path, method: "reflink", cloneMs };
		}
		const target = await open(path, "wx", 0o600);
		undo.defer(() => target.close());
		const extents = [...findData(source.file, source.sizeBytes)];
		const bytes = extents.reduce((sum, extent) => sum + extent.length, 0);
		return { disk, source, image, path, method: "copy", target, extents, bytes };
	} catch (error) {
		return fail(error, `preparing ${disk.name}`, "prepare-failed");
	}
}

async function checkFreeSpace(folder: string, copyBytes: number): Promise<void> {
	const { bavail, bsize } = await statfs(folder);
	const wantedBytes = copyBytes + Math.ceil(copyBytes / 100) + spareBytes;
	if (bavail * bsize >= wantedBytes) return;
	const what = `${folder} has ${bavail * bsize} bytes free, the images need ${wantedBytes}`;
	throw new StillpointError("disk-full", what, { details: { folder, freeBytes: bavail * bsize, wantedBytes } });
}

async function predictCopies(
	copies: readonly CopyPlan[],
	copyBytes: number,
	remembered: readonly RememberedCopy[] | undefined,
	signal: AbortSignal,
): Promise<number> {
	const [largest] = [...copies].sort((a, b) => b.bytes - a.bytes);
	if (largest === undefined) return 0;
	try {
		const sample = await sampleCopy(largest.source.file, largest.target, largest.extents, signal);
		return predictCopyMs(copyBytes, sample, remembered);
	} catch (error) {
		signal.throwIfAborted();
		return fail(error, `a sample of ${largest.disk.name}`, "prepare-failed");
	}
}

async function takeAll(
	plans: readonly DiskPlan[],
	findData: FindData,
	stop: AbortSignal,
	onTaken: (disk: TakenDisk) => void,
) {
	const failed = new AbortController();
	const either = AbortSignal.any([stop, failed.signal]);
	const startedAtMs = performance.now();
	const outcomes = new Map<DiskPlan, DiskOutcome>();
	await Promise.all(
		inTurns(plans).map(async (turns) => {
			for (const plan of turns) {
				const outcome = await takeDisk(plan, findData, either);
				outcomes.set(plan, outcome);
				if (outcome.ok) onTaken(outcome);
				else failed.abort(new StillpointError(outcome.code, outcome.error));
			}
		}),
	);
	const inOrder = plans.flatMap((plan) => outcomes.get(plan) ?? []);
	return { outcomes: inOrder, copyMs: performance.now() - startedAtMs };
}

/**
 * What is done at once, each with what follows after it. Copies from one place share its speed, so they are made one
 * after the other, the smallest first: the last one ends no later, and all others are let go earlier.
 */
function inTurns(plans: readonly DiskPlan[]): DiskPlan[][] {
	const copies = plans.filter((plan) => plan.method === "copy").sort((a, b) => a.bytes - b.bytes);
	const clones = plans.filter((plan) => plan.method === "reflink").map((plan) => [plan]);
	return [...clones, ...Map.groupBy(copies, ({ source }) => source.origin).values()];
}

async function takeDisk(plan: DiskPlan, findData: FindData, signal: AbortSignal): Promise<DiskOutcome> {
	const { disk, source, image, path } = plan;
	const startedAtMs = performance.now();
	try {
		signal.throwIfAborted();
		if (plan.method === "reflink") await reflink(disk.image, path);
		else {
			const extents = findData(source.file, source.sizeBytes);
			const skipZeros = source.kind === "block-device";
			await copySparsely({ source: source.file, target: plan.target, extents, skipZeros, signal });
		}
		await requireUnchanged(disk.image, source);
		signal.throwIfAborted();
		return { name: disk.name, ok: true, snapshotId: image, copyMs: performance.now() - startedAtMs };
	} catch (error) {
		const { code, message } = asCopyError(error, `the image of ${disk.name}`, "snapshot-failed");
		return { name: disk.name, ok: false, code, error: message };
	}
}

function fail(error: unknown, what: string, otherwise: ErrorCode = "snapshot-failed"): never {
	throw asCopyError(error, what, otherwise);
}

function asCopyError(error: unknown, what: string, otherwise: ErrorCode): StillpointError {
	if (error instanceof StillpointError) return error;
	const { code } = error as NodeJS.ErrnoException;
	const full = code === "ENOSPC" || code === "EDQUOT";
	const why = error instanceof Error ? error.message : String(error);
	return new StillpointError(full ? "disk-full" : otherwise, `${what}: ${why}`, { cause: error });
}
