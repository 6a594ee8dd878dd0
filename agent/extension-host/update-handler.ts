/**
 * From one version of a handler to another, in the order of Azure's contract:
 *
 *   disable -> copy -> update -> | -> uninstall -> remove -> install (UpdateWithInstall) -> done, to be enabled
 *     old     mrseq     new or   |       old         old        new
 *             status    old      |
 *
 * Each step is noted before the next one begins: an agent that was killed goes on where it was. What fails before the
 * line leaves the old version, which is enabled again; what fails after it is FailedUpgrade.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { findSmallJson } from "../../platform/read-small-json.ts";
import {
	type CommandGiven,
	disableHandler,
	endProcessesOf,
	type HandlerVersion,
	notRun,
	type OnCommand,
	removeVersion,
	runCommand,
	settleCommand,
	uninstallExitVariable,
} from "./handler.ts";
import { carryOver, readHandlerState, writeHandlerState } from "./handler-files.ts";
import type { PrivateFolders } from "./handler-place.ts";
import type { HostPorts } from "./host-ports.ts";
import { compareVersions } from "./installed-extension.ts";
import { replaceFile } from "./replace-file.ts";

const stages = ["disable", "copy", "update", "uninstall", "remove", "install"] as const;

const noteSchema = z.strictObject({
	from: z.string(),
	to: z.string(),
	stage: z.enum(stages),
	/** By instance; "" is the handler without instances. */
	disableExits: z.record(z.string(), z.string()),
	uninstallExit: z.string(),
});
export type UpdateNote = z.infer<typeof noteSchema>;

/** What the update found out for the first `enable` of the new version. */
export type Updated = { readonly uninstallExit: string };

export async function findUpdate(folders: PrivateFolders): Promise<UpdateNote | undefined> {
	const is = { code: "state-unusable", limitBytes: 65_536, schema: noteSchema } as const;
	return await findSmallJson(notePath(folders), is).catch(() => undefined);
}

/** Whether the old version still is what the machine has. */
export function isBeforeUninstall({ stage }: UpdateNote): boolean {
	return stages.indexOf(stage) < stages.indexOf("uninstall");
}

export async function forgetUpdate(folders: PrivateFolders): Promise<void> {
	await rm(notePath(folders), { force: true });
}

/**
 * @param old may be gone already, when an update goes on after its removal
 * @throws what failed. `details.rolledBack` says whether the old version stays.
 */
export async function updateHandler(given: {
	old: HandlerVersion | undefined;
	next: HandlerVersion;
	fromVersion: string;
	/** What the old version has enabled: its instances, or itself. */
	units: readonly { instance?: string | undefined; sequenceNumber: number }[];
	ports: HostPorts;
	onCommand: OnCommand;
}): Promise<Updated> {
	const { old, next, ports, onCommand } = given;
	const { name, version } = next.place;
	const { hold } = ports;
	const goesOn = next.manifest.handlerManifest.continueOnUpdateFailure;
	const found = await findUpdate(next.place.private);
	const note: UpdateNote =
		found?.to === version
			? found
			: { from: given.fromVersion, to: version, stage: "disable", disableExits: {}, uninstallExit: notRun };
	const number = given.units[0]?.sequenceNumber ?? 0;
	const shown = old === undefined ? [] : [old.place.folder];
	const log = ports.log.child({ extension: name, from: note.from, to: version });
	log.info("extension update", { stage: note.stage });

	async function advance(stage: UpdateNote["stage"]): Promise<void> {
		note.stage = stage;
		await hold.write(() => replaceFile(notePath(next.place.private), JSON.stringify(note)));
	}

	async function disable(version: HandlerVersion): Promise<void> {
		for (const unit of given.units) {
			if ((await readHandlerState(version.place, unit.instance)) !== "Enabled") continue;
			const key = unit.instance ?? "";
			const seen: OnCommand = (last, instance) => {
				note.disableExits[key] = String(last.exitStatus ?? -1);
				onCommand(last, instance);
			};
			await disableHandler(version, { ...unit, shown: [next.place.folder] }, ports, seen).catch((error: unknown) => {
				if (!goesOn || ports.stopping.aborted) throw error;
				log.warn("the old version's disable failed; the update goes on as the manifest says", { error });
			});
			await advance("disable");
		}
		await endProcessesOf(version.place, undefined, ports);
		await hold.write(() => writeHandlerState(version.place, "Installed"));
	}

	async function update(): Promise<void> {
		const isDowngrade = old !== undefined && compareVersions(version, note.from) < 0;
		const all = given.units.map(({ instance }) => ({
			extensionName: instance,
			exitCode: note.disableExits[instance ?? ""] ?? notRun,
		}));
		const environment = {
			VERSION: version,
			AZURE_GUEST_AGENT_UPDATING_FROM_VERSION: note.from,
			AZURE_GUEST_AGENT_DISABLE_CMD_EXIT_CODE: note.disableExits[given.units[0]?.instance ?? ""] ?? notRun,
			...(next.manifest.handlerManifest.supportsMultipleExtensions
				? { AZURE_GUEST_AGENT_DISABLE_CMD_EXIT_CODES_MULTIPLE_EXTENSIONS: JSON.stringify(all) }
				: {}),
		};
		const both = [...shown, next.place.folder];
		const runner = isDowngrade && old !== undefined ? old : next;
		const command = { sequenceNumber: number, environment, shown: both };
		const { require } = await runCommand(runner, "update", command, ports, onCommand);
		require();
	}

	try {
		if (note.stage === "disable") {
			await advance("disable");
			if (old !== undefined) await disable(old);
			await advance("copy");
		}
		if (note.stage === "copy") {
			if (old !== undefined) await hold.write(() => carryOver(old.place, next.place));
			await advance("update");
		}
		if (note.stage === "update") {
			await update();
			await advance("uninstall");
			await settleCommand(next, ports);
		}
	} catch (error) {
		// A stop of the service is no failure: the next start goes on here.
		if (ports.stopping.aborted) throw error;
		await settleCommand(next, ports);
		await hold.write(async () => {
			await writeHandlerState(next.place, "FailedUpgrade");
			await forgetUpdate(next.place.private);
		});
		throw told(error, `the update to ${version} failed, ${note.from} stays`, true);
	}

	try {
		if (note.stage === "uninstall") {
			if (old !== undefined)
				note.uninstallExit = await uninstallOld(old, { sequenceNumber: number, shown: [next.place.folder] });
			await advance("remove");
			await settleCommand(next, ports);
		}
		if (note.stage === "remove") {
			if (old !== undefined) await removeVersion(old, ports);
			await advance("install");
		}
		if (next.manifest.handlerManifest.updateMode === "UpdateWithInstall") {
			const environment = { [uninstallExitVariable]: note.uninstallExit };
			const { require } = await runCommand(next, "install", { sequenceNumber: number, environment }, ports, onCommand);
			require();
		}
		await hold.write(async () => {
			await writeHandlerState(next.place, "Installed");
			await forgetUpdate(next.place.private);
		});
		await settleCommand(next, ports);
		log.info("extension updated");
		return { uninstallExit: note.uninstallExit };
	} catch (error) {
		if (ports.stopping.aborted) throw error;
		await settleCommand(next, ports);
		await hold.write(() => writeHandlerState(next.place, "FailedUpgrade"));
		throw told(error, `the update from ${note.from} to ${version} failed after the old version was uninstalled`, false);
	}

	async function uninstallOld(version: HandlerVersion, command: CommandGiven): Promise<string> {
		const { outcome, require } = await runCommand(version, "uninstall", command, ports, onCommand);
		try {
			require();
		} catch (error) {
			if (!goesOn) throw error;
			log.warn("the old version's uninstall failed; the update goes on as the manifest says", { error });
		}
		await endProcessesOf(version.place, undefined, ports);
		return String(outcome.exitStatus ?? -1);
	}
}

function told(error: unknown, what: string, rolledBack: boolean): StillpointError {
	const { code, message, details } = asStillpointError(error);
	return new StillpointError(code, `${what}: ${message}`, { cause: error, details: { ...details, rolledBack } });
}

function notePath(folders: PrivateFolders): string {
	return join(folders.folder, "update.json");
}
