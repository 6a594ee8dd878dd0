import type { Verdict } from "../found-file-system.ts";

/** What the walk saw in one folder, of the names and first bytes that some kind of database is known by. */
export type FolderSight = {
	path: Buffer;
	/** By name as latin1, so that every byte of it comes back: names on Linux need not be UTF-8. */
	heads: Map<string, Buffer>;
	folders: Set<string>;
};

/** Where a link of the guest leads: into the same file system, or not. */
export type GuestPath = { path: Buffer } | { elsewhere: string };

export type DatabaseWork = {
	/** For the copy: emptied by the check when it is done. */
	scratchDir: string;
	/** Whether servers and checkers of this host may be started on the copy. */
	startServers: boolean;
	/** What is installed is looked for below it: `/usr`. */
	programsPrefix: string;
	/** For one database: recovery and check together. */
	limitMs: number;
	/** @param target of a link that lies in `folder` of the guest's file system. */
	follow(target: string, folder: Buffer): Promise<GuestPath>;
	signal: AbortSignal;
};

/** How a kind of database is found, and how a copy of it is checked. */
export type DatabaseKind = {
	name: string;
	/** Whether this name is worth remembering until the whole folder was seen. `head` is undefined for a folder. */
	tells(name: string, head: Buffer | undefined): boolean;
	/** The databases in this folder, or the folder itself: cheap, and by nothing else. */
	find(sight: FolderSight): Buffer[];
	/** Rejects only when `signal` is aborted. Whatever can't be looked at is `unknown`, never a pass. */
	check(path: Buffer, work: DatabaseWork): Promise<Verdict>;
};

export type FoundDatabase = { kind: DatabaseKind; path: Buffer };

export function pathIn(sight: FolderSight, name: string): Buffer {
	return Buffer.concat([sight.path, Buffer.from("/"), Buffer.from(name, "latin1")]);
}
