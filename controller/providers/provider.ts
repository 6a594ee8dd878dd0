import type { ErrorCode } from "../../contracts/errors.ts";
import type { ImageIdentity, RecoveryPointDisk } from "../../contracts/recovery-point.ts";

/** A disk of the job, and where the provider finds it. */
export type SourceDisk = {
	/** The guest's name of the disk. */
	readonly name: string;
	readonly image: string;
};

export type PrepareRequest = {
	/** An empty folder of the recovery point's own. The provider writes nowhere else. */
	readonly folder: string;
	readonly disks: readonly SourceDisk[];
	readonly signal: AbortSignal;
};

export type TakenDisk = {
	readonly name: string;
	readonly ok: true;
	readonly snapshotId: string;
	readonly copyMs: number;
};
export type DiskOutcome =
	| TakenDisk
	| { readonly name: string; readonly ok: false; readonly code: ErrorCode; readonly error: string };

/** All that can be done beforehand is done. Disposing lets go of what is open; it removes no file. */
export type PreparedSnapshot = AsyncDisposable & {
	/** How long `take` will need, with some caution. */
	readonly predictedMs: number;
	/**
	 * Takes all disks at once, in one call and with nothing else to do. Never rejects. When one disk fails, or the
	 * signal comes, the others stop; what is half done then is no snapshot. `onTaken` hears of each disk as soon as its
	 * snapshot is complete, and only when nothing that is written to the disk from then on could show up in it.
	 */
	take(signal: AbortSignal, onTaken: (disk: TakenDisk) => void): Promise<DiskOutcome[]>;
	/** What the images carry, after `take` with every disk ok. */
	describe(signal: AbortSignal): Promise<{ name: string; identity: ImageIdentity }[]>;
	/** Resolves when a power cut no longer loses the images. `disk-full` when they did not fit after all. */
	keep(signal: AbortSignal): Promise<RecoveryPointDisk[]>;
};

/**
 * Something that can take snapshots of disks from outside the machine.
 * Errors of `prepare`: `image-unreadable`, `disk-full`, `prepare-failed`.
 */
export type SnapshotProvider = {
	readonly name: "image-files";
	prepare(request: PrepareRequest): Promise<PreparedSnapshot>;
	/** Removes what it put into the folder, and the folder. */
	delete(folder: string): Promise<void>;
};
