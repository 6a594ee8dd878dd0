import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import type { Level } from "../../../contracts/level.ts";
import type { Shape } from "../../fixtures/shapes.ts";
import type { SlowDisk } from "../../fixtures/slow-disk.ts";
import type { Lane, Machine } from "../fault-table/lane.ts";
import type { Round } from "./schedule.ts";

export const holdLimitMs = 2_000;
/** House promise 1: after the hold's deadline. */
export const promiseMs = 2_000;
/** So long whoever is stopped does nothing: longer than everything that was promised. */
export const stallMs = holdLimitMs + promiseMs + 200;

export type SweepMachine = Machine &
	Pick<Shape, "writable" | "checkShape" | "thaw"> & {
		/** One of the disks, which can be made slow and stuck. */
		readonly slow?: SlowDisk;
	};

/** A job that is where the round wants it, and everybody who is there. */
export type Scene = {
	readonly lane: Lane<SweepMachine>;
	readonly round: Round;
	readonly jobId: string;
	readonly random: () => number;
	/** The longest that this machine left us without a processor since the round began. */
	starvedMs(): number;
	/** 0: there is none now. */
	readonly pids: { readonly [K in "agent" | "extension" | "freezer" | "script" | "guard" | "controller"]: number };
};

export type Struck = {
	/** What the fault came to, in a few words. */
	readonly note?: string;
	/** Lets the fault last, and ends it. */
	settle?(): Promise<void>;
	/** When the job has ended. */
	check?(job: ControllerJob | undefined): Promise<string[]>;
	/** The best level that the job may say. */
	best?(): Level;
	/** So much longer a write may take. */
	allowanceMs?(): number;
	/** Folders whose writers only the kernel lets go. */
	readonly exempt?: readonly string[];
	/** Only the kernel and whoever struck can end it. */
	readonly mayBeStuck?: boolean;
	/** The machine's storage is not what it was: the next round gets another. */
	readonly spoils?: boolean;
};
