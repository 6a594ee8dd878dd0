/**
 * The truth, found without trusting labels: what of each writer's commits is really in the images of a recovery point.
 * Every file system is read from a copy, in a mount namespace of its own, after the recovery that any restore would do.
 */
import { cp, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openPrivateMounts, type PrivateMounts } from "../controller/verify/private-mounts.ts";
import { openRawImage } from "../controller/verify/raw-image.ts";
import { copyToScratch } from "../controller/verify/scratch-copy.ts";
import type { LoopFileSystem } from "../test/fixtures/loop-file-system.ts";
import { countWholeRecords } from "./record-format.ts";
import type { ScratchMachine } from "./scratch-machine.ts";
import type { WriterHistory } from "./writers.ts";

/** Path of a writer's file on the live machine -> whole commits from the first one on. */
export type CommitsFound = ReadonlyMap<string, number>;

/** @param images kernel name of the disk -> image file. */
export async function findCommits(
	images: ReadonlyMap<string, string>,
	machine: ScratchMachine,
	writers: readonly Pick<WriterHistory, "kind" | "path">[],
	folder: string,
	signal: AbortSignal,
): Promise<CommitsFound> {
	await using undo = new AsyncDisposableStack();
	const scratch = await mkdtemp(join(folder, "truth-"));
	undo.defer(() => rm(scratch, { recursive: true, force: true }));
	const mounts = undo.use(await openPrivateMounts(scratch, [...images.values()].map(dirname), signal));
	const found = new Map<string, number>();
	const look = async (fileSystem: LoopFileSystem, image: string, inside: (root: string) => Promise<void>) => {
		const root = await mountCopy(fileSystem, image, scratch, mounts, signal);
		for (const { kind, path } of writers) {
			const within = relative(fileSystem.mountPoint, path);
			if (within.startsWith("..") || !(await exists(join(root, within)))) continue;
			found.set(
				path,
				kind === "sqlite"
					? await countRows(join(root, within), scratch)
					: countWholeRecords(await readFile(join(root, within))),
			);
		}
		await inside(root);
		await mounts.unmountAll();
	};
	for (const { name, fileSystem } of machine.disks) {
		const image = images.get(name);
		if (image === undefined) continue;
		let nestedCopy: string | undefined;
		await look(fileSystem, image, async (root) => {
			const within = relative(fileSystem.mountPoint, machine.nested.imagePath);
			if (within.startsWith("..")) return;
			nestedCopy = join(scratch, "nested.img");
			await cp(join(root, within), nestedCopy);
		});
		if (nestedCopy !== undefined) await look(machine.nested, nestedCopy, async () => {});
	}
	return found;
}

async function mountCopy(
	fileSystem: LoopFileSystem,
	imagePath: string,
	scratch: string,
	mounts: PrivateMounts,
	signal: AbortSignal,
): Promise<string> {
	const { fsType, uuid } = fileSystem;
	await using reader = await openRawImage(imagePath, { follow: false });
	const { sizeBytes } = reader;
	const member = { disk: "", imagePath, offsetBytes: 0, sizeBytes, reader };
	const copy = await copyToScratch({ fsType, uuid, members: [member] }, scratch, signal);
	if ("failure" in copy) throw new Error(`${imagePath}: ${copy.failure}`);
	const mounted = await mounts.mount(copy.parts, {
		fsType,
		options: fsType === "xfs" ? "nouuid" : "noatime",
		readOnly: false,
	});
	if ("failure" in mounted) throw new Error(`${imagePath} cannot be mounted: ${mounted.failure}`);
	return mounted.folder;
}

/** Opens a copy of the database as a restored machine would: with its write-ahead log. */
async function countRows(path: string, scratch: string): Promise<number> {
	const copy = join(scratch, "orders.db");
	for (const suffix of ["", "-wal", "-shm", "-journal"]) {
		await rm(copy + suffix, { force: true });
		if (await exists(path + suffix)) await cp(path + suffix, copy + suffix);
	}
	const database = new DatabaseSync(copy);
	try {
		const row = database.prepare("SELECT count(*) AS rows, coalesce(max(id), -1) AS last FROM orders").get();
		const { rows, last } = row as { rows: number; last: number };
		// Ids are given in order: a gap would be a lost commit, and only those before it count.
		return rows === last + 1 ? rows : firstGap(database);
	} finally {
		database.close();
	}
}

function firstGap(database: DatabaseSync): number {
	let expected = 0;
	for (const { id } of database.prepare("SELECT id FROM orders ORDER BY id").iterate() as Iterable<{ id: number }>) {
		if (id !== expected) return expected;
		expected += 1;
	}
	return expected;
}

async function exists(path: string): Promise<boolean> {
	return stat(path).then(
		() => true,
		() => false,
	);
}
