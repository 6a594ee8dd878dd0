import { type BigIntStats, type FSWatcher, statSync, watch } from "node:fs";
import { dirname } from "node:path";

export type FolderWatch = Disposable & {
	/** Looks again at what there is, as if something had changed. */
	look(): void;
};

export type WatchFoldersOptions = {
	/** The folder that may be removed and made anew; the folders below it that are watched, parents before children. */
	readonly top: string;
	readonly below: readonly string[];
	/** A name in one of the folders was made, changed or removed. */
	onName(folder: string, name: string): void;
	/** One of the folders appeared, also in place of another: whatever is in it is new. */
	onFolder(folder: string): void;
};

type Watched = { readonly watcher: FSWatcher; readonly identity: string };

/**
 * Watches folders by inotify, which costs nothing while nothing happens. A folder that does not exist is waited for:
 * while the topmost one is missing, the nearest folder above it that exists is watched, and let go of later.
 */
export function watchFolders(options: WatchFoldersOptions): FolderWatch {
	const wanted = [options.top, ...options.below];
	const watched = new Map<string, Watched>();
	let closed = false;

	/** Until nothing new is found: what was made before its watch began was told by nobody. */
	function look(): void {
		if (closed) return;
		for (let again = true; again; ) {
			again = false;
			const ancestor = identify(options.top) === undefined ? nearestFolder(options.top) : undefined;
			const now = ancestor === undefined ? wanted : [ancestor];
			for (const [path, one] of watched) if (!now.includes(path) || identify(path) !== one.identity) forget(path, one);
			for (const path of now) {
				if (watched.has(path)) continue;
				if (!begin(path)) continue;
				again = true;
				if (wanted.includes(path)) options.onFolder(path);
			}
		}
	}

	function begin(path: string): boolean {
		const identity = identify(path);
		if (identity === undefined) return false;
		let watcher: FSWatcher;
		try {
			watcher = watch(path, (_, name) => {
				if (name !== null) options.onName(path, name);
				// A folder that is removed or moved away tells its own name.
				if (name === null || isStep(path, name) || identify(path) !== identity) look();
			});
		} catch {
			return false;
		}
		watcher.on("error", () => look());
		watched.set(path, { watcher, identity });
		return true;
	}

	/** Whether what changed may be a folder on the way to one of ours. */
	function isStep(path: string, name: string): boolean {
		const child = path === "/" ? `/${name}` : `${path}/${name}`;
		return wanted.some((one) => one === child || one.startsWith(`${child}/`));
	}

	function forget(path: string, { watcher }: Watched): void {
		watcher.close();
		watched.delete(path);
	}

	look();
	return {
		look,
		[Symbol.dispose]() {
			closed = true;
			for (const [path, one] of watched) forget(path, one);
		},
	};
}

/** Of a folder: no other one has it while this one exists. */
function identify(path: string): string | undefined {
	let stats: BigIntStats | undefined;
	try {
		stats = statSync(path, { bigint: true, throwIfNoEntry: false });
	} catch {
		return undefined;
	}
	return stats?.isDirectory() ? `${stats.dev}:${stats.ino}:${stats.birthtimeNs}` : undefined;
}

function nearestFolder(path: string): string {
	let folder = dirname(path);
	while (folder !== "/" && identify(folder) === undefined) folder = dirname(folder);
	return folder;
}
