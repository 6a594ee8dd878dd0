/** Who takes the snapshots of a task's disks: this machine with the blobs' own addresses, or the host below it. */
import type { StillpointError } from "../../../contracts/errors.ts";
import type { PlannedDisk } from "../../../contracts/hold-protocol.ts";
import type { ImageIdentity } from "../../../contracts/recovery-point.ts";
import type { AzureCode } from "./azure-codes.ts";
import type { SnapshotInfo } from "./azure-status.ts";
import type { LunDisk } from "./lun-disks.ts";

export type DiskSnapshot = {
	readonly disk: LunDisk;
	readonly ok: boolean;
	/** Without secrets. */
	readonly snapshotId?: string | undefined;
	readonly error?: string | undefined;
	readonly info: SnapshotInfo;
};

export type Taken = {
	/** One for each disk of the task. */
	readonly disks: readonly DiskSnapshot[];
	/** Azure's code when not every disk was taken. */
	readonly failure?: AzureCode | undefined;
	readonly telemetry?: Readonly<Record<string, string>> | undefined;
};

export type DescribedDisk = { readonly name: string; readonly identity: ImageIdentity };

export type SnapshotProvider = Disposable & {
	/** Told in reports. */
	readonly name: string;
	/** Everything that can be slow. Its connections stand when it returns. @throws `prepare-failed` */
	prepare(signal: AbortSignal): Promise<void>;
	/** Just before the freeze: connects again what was lost. @throws `prepare-failed` */
	ready(limitMs: number): Promise<void>;
	/**
	 * In the window. Never throws, and ends within the limit. `onTaken` hears of a disk as soon as its snapshot is made,
	 * where that is known of each one.
	 */
	take(limitMs: number, onTaken: (disk: DiskSnapshot) => void): Promise<Taken>;
	/** After the thaw: what the snapshots carry. Only those of which that is known. Never throws. */
	describe(taken: Taken, planned: readonly PlannedDisk[]): Promise<readonly DescribedDisk[]>;
	/** The clock of the other side as heard in `prepare`, in ms since 1970. */
	readonly otherClockMs: number | undefined;
};

export type ChosenProvider = { readonly provider: SnapshotProvider; readonly passedOver: readonly StillpointError[] };
