/** One handler in the host's memory, and the steps of its life that a single command makes. */
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { HandlerManifest } from "../../contracts/extension.ts";
import type { ExtensionInfo } from "../../contracts/local-calls.ts";
import { dropSlot } from "./command-slot.ts";
import { readHandlerState, writeHandlerState } from "./handler-files.ts";
import { draftPrefix, type HandlerPlace } from "./handler-place.ts";
import { endHandlerProcesses, type WantedProcesses } from "./handler-processes.ts";
import type { CommandName, HostPorts } from "./host-ports.ts";
import { dropFromView, removeMountPoints } from "./private-view.ts";
import {
	type CommandOutcome,
	type HandlerCommandRun,
	requireSuccess,
	runHandlerCommand,
} from "./run-handler-command.ts";

/** One installed version. */
export type HandlerVersion = { readonly place: HandlerPlace; readonly manifest: HandlerManifest };

export type LastCommand = NonNullable<ExtensionInfo["lastCommand"]>;

export type CommandGiven = Partial<Pick<HandlerCommandRun, "instance" | "environment" | "shown">> & {
	readonly sequenceNumber: number;
};

/** Hears of each command that ended. */
export type OnCommand = (last: LastCommand, instance: string | undefined) => void;

export const uninstallExitVariable = "AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE";
export const notRun = "NOT_RUN";

/** Resolves however it ended; the command stays noted until `settleCommand`. */
export async function runCommand(
	{ place, manifest }: HandlerVersion,
	what: CommandName,
	given: CommandGiven,
	ports: HostPorts,
	onCommand: OnCommand,
): Promise<{ outcome: CommandOutcome; require(): void }> {
	const run = { ...given, place, what, command: manifest.handlerManifest[`${what}Command`] };
	const outcome = await runHandlerCommand(run, ports);
	const { exitStatus, timedOut, durationMs, at } = outcome;
	onCommand(
		{ command: what, timedOut, durationMs, at, ...(exitStatus === undefined ? {} : { exitStatus }) },
		given.instance,
	);
	return { outcome, require: () => requireSuccess(run, outcome) };
}

/** After what follows from a command is written. */
export async function settleCommand({ place }: HandlerVersion, ports: HostPorts): Promise<void> {
	await ports.hold.write(() => dropSlot(place.private));
}

/** @throws `extension-failed`, `extension-timeout` */
export async function installHandler(
	version: HandlerVersion,
	given: CommandGiven,
	ports: HostPorts,
	onCommand: OnCommand,
): Promise<void> {
	const { outcome, require } = await runCommand(version, "install", given, ports, onCommand);
	if (outcome.exitStatus === 0) await ports.hold.write(() => writeHandlerState(version.place, "Installed"));
	await settleCommand(version, ports);
	require();
	const { name, folder } = version.place;
	ports.log.info("extension installed", { extension: name, version: version.place.version, folder });
	if (version.manifest.handlerManifest.rebootAfterInstall)
		ports.log.warn("the extension asks for a restart of the machine; the agent makes none", { extension: name });
}

/** Disables what is enabled, and ends its processes. @throws `extension-failed`, `extension-timeout` */
export async function disableHandler(
	version: HandlerVersion,
	given: CommandGiven,
	ports: HostPorts,
	onCommand: OnCommand,
): Promise<void> {
	const { place } = version;
	const { instance } = given;
	if ((await readHandlerState(place, instance)) !== "Enabled") return;
	const { outcome, require } = await runCommand(version, "disable", given, ports, onCommand);
	if (outcome.exitStatus === 0) {
		await endProcessesOf(place, instance, ports);
		const state = instance === undefined ? "Installed" : "Disabled";
		await ports.hold.write(() => writeHandlerState(place, state, instance));
	}
	await settleCommand(version, ports);
	require();
}

/** Azure's agent tells a failure of `uninstall` and goes on: the handler is gone afterwards, its logs stay. */
export async function uninstallHandler(
	version: HandlerVersion,
	given: CommandGiven,
	ports: HostPorts,
	onCommand: OnCommand,
): Promise<void> {
	const { place } = version;
	const { require } = await runCommand(version, "uninstall", given, ports, onCommand);
	try {
		require();
	} catch (error) {
		ports.log.warn("an uninstall command failed; the extension is removed all the same", { error });
	}
	await endProcessesOf(place, undefined, ports);
	await removeVersion(version, ports);
	await ports.hold.write(async () => {
		await rm(place.private.folder, { recursive: true, force: true });
		await removeMountPoints(ports.folders.extensionsDir);
	});
	ports.log.info("extension uninstalled", { extension: place.name, version: place.version });
}

/** The folder of a version; the handler's keys and view stay. */
export async function removeVersion({ place }: HandlerVersion, ports: HostPorts): Promise<void> {
	await ports.hold.write(async () => {
		// Whole or not at all: what is left of a half removed one is no package, and nobody would remove it.
		const gone = join(ports.folders.extensionsDir, `${draftPrefix}gone-${place.name}-${place.version}`);
		await rm(gone, { recursive: true, force: true });
		await rename(place.folder, gone).catch((error: NodeJS.ErrnoException) => {
			if (error.code !== "ENOENT") throw error;
		});
		await rm(gone, { recursive: true, force: true });
		await dropFromView(place);
	});
}

/** All of the handler's, or those of one instance. */
export function processesOf({ private: { stateView } }: HandlerPlace, instance: string | undefined): WantedProcesses {
	return { stateView, instance };
}

/** Ends them; not while disks may be frozen. */
export async function endProcessesOf(place: HandlerPlace, instance: string | undefined, ports: HostPorts) {
	const left = await endHandlerProcesses(processesOf(place, instance), { mayLook: ports.mayStartPrograms });
	if (left.length > 0)
		ports.log.warn("processes of an extension do not end", { extension: place.name, pids: left.map(({ pid }) => pid) });
}
