import type { Log } from "../log.ts";
import type { WriteHold } from "../write-hold.ts";
import type { HostFolders } from "./handler-place.ts";

/** What every part of the extension host needs. */
export type HostPorts = {
	readonly folders: HostFolders;
	readonly log: Log;
	/** Every disk write goes through it. */
	readonly hold: WriteHold;
	/** The service stops. */
	readonly stopping: AbortSignal;
	/** False from `prepared` of a snapshot job to its thaw. */
	mayStartPrograms(): boolean;
	readonly bootId: string;
	readonly limits: HostLimits;
};

export type HostLimits = {
	readonly commandMs: Readonly<Record<CommandName, number>>;
	/** Between two looks at a handler that has an open job or a daemon. */
	readonly watchMs: number;
	/** From the end of a job's last process, for its status to be seen. */
	readonly orphanedJobMs: number;
	/** A `transitioning` that is not told again for this long is named silent. */
	readonly silentMs: number;
	readonly heartbeatUnknownMs: number;
	readonly heartbeatUnresponsiveMs: number;
	/** Of the first restart; doubles up to the last. */
	readonly restartFirstMs: number;
	readonly restartLastMs: number;
	/** A daemon that lived this long has its back-off forgotten. */
	readonly quietMs: number;
};

export type CommandName = "install" | "update" | "disable" | "enable" | "uninstall";

/** Azure's own time limits of the five commands; nothing can raise them. */
export const azureLimits: HostLimits = {
	commandMs: { install: 900_000, update: 900_000, disable: 900_000, enable: 300_000, uninstall: 300_000 },
	watchMs: 1_000,
	orphanedJobMs: 5_000,
	silentMs: 120_000,
	heartbeatUnknownMs: 60_000,
	heartbeatUnresponsiveMs: 600_000,
	restartFirstMs: 1_000,
	restartLastMs: 300_000,
	quietMs: 600_000,
};

const pollMs = 100;

/** Resolves when a program may be started. The timer runs only while something waits for a snapshot to end. */
export async function untilProgramsMayStart(ports: HostPorts, signal: AbortSignal): Promise<void> {
	const { setTimeout: sleep } = await import("node:timers/promises");
	signal.throwIfAborted();
	while (!ports.mayStartPrograms()) await sleep(pollMs, undefined, { signal });
}
