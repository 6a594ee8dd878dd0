import { join } from "node:path";
import type { SnapshotRequest } from "../../../contracts/extension.ts";
import { version } from "../../../contracts/version.ts";
import { handlerName } from "./azure-status.ts";
import type { AzureTask } from "./azure-task.ts";
import type { GuestConfig } from "./guest-config.ts";
import type { LunDisk } from "./lun-disks.ts";

/**
 * What our own agent would ask of the extension: the disks by their names, this machine's caps.
 * @param freezes false: the machine's admin said that nothing shall be frozen; then level crash is what they accept
 */
export function composeRequest(
	task: Pick<AzureTask, "acceptsCrash">,
	disks: readonly LunDisk[],
	given: { config: GuestConfig; jobId: string; packageFolder: string; freezes: boolean },
): SnapshotRequest {
	const { config, jobId, packageFolder, freezes } = given;
	const acceptsCrash = !freezes || (task.acceptsCrash && disks.length === 1);
	return {
		schemaVersion: 1,
		order: {
			jobId,
			level: "application",
			acceptLevel: acceptsCrash ? "crash" : "file-system",
			disks: { include: disks.map(({ name }) => name) },
			startWithinMs: config.startWithinMs,
			holdLimitMs: config.holdLimitMs,
			prepareLimitMs: config.prepareLimitMs,
			snapshot: "reported",
		},
		holdLimitMs: config.holdLimitMs,
		fileSystems: config.fileSystems,
		tempDisks: [],
		scriptsFolder: config.scriptsFolder,
		otherScripts: config.otherScripts,
		runFolder: config.runFolder,
		hostFolders: [packageFolder],
		// The job writes a status of its own kind, which nobody but a reader of the run folder sees: the last one is kept.
		statusFile: join(config.runFolder, "job.status"),
		extension: { name: handlerName, version },
		channel: { socketPath: "", token: "" },
	};
}
