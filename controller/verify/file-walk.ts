import type { BigIntStats } from "node:fs";
import { constants } from "node:fs";
import { lstat, open, readdir } from "node:fs/promises";
import type { DatabaseKind, FolderSight, FoundDatabase } from "./databases/database-kind.ts";
import { readImageIdentity } from "./image-identity.ts";

export type WalkResult = {
	files: number;
	bytes: number;
	/** Files and folders that can't be read to their end, with the reason. */
	unreadable: string[];
	/** Sparse files so large that reading their holes would take hours, and files under a key that is not here. */
	notRead: number;
	/** Content of the marker files in the root folder (of each subvolume on btrfs). */
	markers: string[];
	/** Paths as bytes: names on Linux need not be UTF-8. */
	databases: FoundDatabase[];
	/** Files that are themselves images of a file system that was asked for. */
	backingFiles: { path: Buffer; fsType: string; uuid: string }[];
	/** Files whose inode was changed after the given instant, and the latest such change. */
	changedLater: { count: number; lastMs: number; path: string };
};

export type WalkOptions = {
	markerName: string;
	/** UUIDs of file systems that lie in files of this one, if they lie here at all. */
	wantedUuids: ReadonlySet<string>;
	/** Inodes changed inside this span of UTC (ms) were changed while the copy was being made. */
	laterThan: { fromMs: number; toMs: number } | undefined;
	/** What kinds of databases are looked for. */
	kinds: readonly DatabaseKind[];
	signal: AbortSignal;
};

const chunkBytes = 1 << 20;
const smallestNestedBytes = 1n << 20n;
const btrfsSubvolumeRootInode = 256n;
const mostNamed = 20;

/** Reads every regular file below a mounted root to its end. Follows no link, opens nothing but folders and files. */
export async function readWholeTree(root: string, options: WalkOptions): Promise<WalkResult> {
	const result: WalkResult = {
		files: 0,
		bytes: 0,
		unreadable: [],
		notRead: 0,
		markers: [],
		databases: [],
		backingFiles: [],
		changedLater: { count: 0, lastMs: 0, path: "" },
	};
	const rootPath = Buffer.from(root);
	const shown = (path: Buffer) => path.subarray(rootPath.length).toString("utf8") || "/";
	const pending: { path: Buffer; holdsMarker: boolean }[] = [{ path: rootPath, holdsMarker: true }];
	const seen = new Set<string>();
	for (let folder = pending.pop(); folder; folder = pending.pop()) {
		options.signal.throwIfAborted();
		const names = await readdir(folder.path, { encoding: "buffer" }).catch((error: unknown) => {
			note(result, `${shown((folder as { path: Buffer }).path)}: ${reason(error)}`);
			return [];
		});
		const sight: FolderSight = { path: folder.path, heads: new Map(), folders: new Set() };
		for (const name of names) {
			const path = Buffer.concat([folder.path, Buffer.from("/"), name]);
			try {
				const status = await lstat(path, { bigint: true });
				noteChange(result, options, status, shown(path));
				const again = (status.isDirectory() || status.nlink > 1n) && !isNew(seen, status);
				if (status.isDirectory() && again) note(result, `${shown(path)}: a folder that is linked more than once`);
				else if (status.isDirectory()) {
					pending.push({ path, holdsMarker: status.ino === btrfsSubvolumeRootInode });
					noteSight(sight, options.kinds, name, undefined);
				}
				if (!status.isFile() || again) continue;
				const head = await readToEnd(path, status, result, options.signal);
				noteSight(sight, options.kinds, name, head);
				if (folder.holdsMarker && name.toString() === options.markerName) result.markers.push(head.toString("utf8"));
				if (status.size >= smallestNestedBytes && options.wantedUuids.size > 0) {
					await noteBackingFile(result, options.wantedUuids, path);
				}
			} catch (error) {
				if (options.signal.aborted) throw error;
				note(result, `${shown(path)}: ${reason(error)}`);
			}
		}
		for (const kind of options.kinds) result.databases.push(...kind.find(sight).map((path) => ({ kind, path })));
	}
	return result;
}

const headBytes = 64;

/** Of a folder with a million files only what some kind of database is known by is kept. */
function noteSight(sight: FolderSight, kinds: readonly DatabaseKind[], bytes: Buffer, head: Buffer | undefined): void {
	const name = bytes.toString("latin1");
	if (!kinds.some((kind) => kind.tells(name, head))) return;
	if (head) sight.heads.set(name, Buffer.from(head.subarray(0, headBytes)));
	else sight.folders.add(name);
}

/** A hostile guest links folders and large files so often that a walk by names would not end. */
function isNew(seen: Set<string>, { dev, ino }: BigIntStats): boolean {
	const { size } = seen;
	return seen.add(`${dev}:${ino}`).size > size;
}

async function readToEnd(path: Buffer, status: BigIntStats, result: WalkResult, signal: AbortSignal): Promise<Buffer> {
	const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
		(error: NodeJS.ErrnoException) => {
			if (error.errno === -126) return undefined; // ENOKEY: encrypted by fscrypt
			throw error;
		},
	);
	if (!handle) {
		result.notRead += 1;
		return Buffer.alloc(0);
	}
	await using file = handle;
	const buffer = Buffer.allocUnsafe(chunkBytes);
	const isMostlyHoles = status.size > 1n << 30n && status.blocks * 512n < status.size / 8n;
	const wanted = isMostlyHoles ? chunkBytes : Number(status.size);
	let done = 0;
	let head: Buffer | undefined;
	while (done < wanted) {
		signal.throwIfAborted();
		const { bytesRead } = await file.read(buffer, 0, chunkBytes, done);
		if (bytesRead === 0) throw new Error(`ends after ${done} of ${wanted} bytes`);
		head ??= Buffer.from(buffer.subarray(0, Math.min(bytesRead, 4096)));
		done += bytesRead;
	}
	if (isMostlyHoles) result.notRead += 1;
	else result.files += 1;
	result.bytes += done;
	return head ?? Buffer.alloc(0);
}

async function noteBackingFile(result: WalkResult, wanted: ReadonlySet<string>, path: Buffer): Promise<void> {
	const text = path.toString("utf8");
	// A path that is not UTF-8 can't be handed to the tools; such an image is then missed by `mapping`, not passed.
	if (!Buffer.from(text).equals(path)) return;
	const { fileSystems } = await readImageIdentity(text);
	for (const { fsType, uuid, offsetBytes } of fileSystems) {
		if (offsetBytes === 0 && wanted.has(uuid)) result.backingFiles.push({ path, fsType, uuid });
	}
}

function noteChange(result: WalkResult, options: WalkOptions, status: BigIntStats, path: string): void {
	const changedMs = Number(status.ctimeNs / 1000n) / 1000;
	if (!options.laterThan || changedMs <= options.laterThan.fromMs || changedMs > options.laterThan.toMs) return;
	const { changedLater } = result;
	changedLater.count += 1;
	if (changedMs > changedLater.lastMs) Object.assign(changedLater, { lastMs: changedMs, path });
}

function note(result: WalkResult, what: string): void {
	if (result.unreadable.length < mostNamed) result.unreadable.push(what);
	else result.unreadable[mostNamed] = "and more";
}

function reason(error: unknown): string {
	const { code, message } = error as NodeJS.ErrnoException;
	return code?.startsWith("E") ? code : message;
}
