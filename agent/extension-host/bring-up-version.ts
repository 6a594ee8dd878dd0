/** Which version of a handler there shall be, and the way to it from what there is. */
import { readdir } from "node:fs/promises";
import { StillpointError } from "../../contracts/errors.ts";
import { findInstalled } from "./find-extensions.ts";
import {
	disableHandler,
	endProcessesOf,
	type HandlerVersion,
	installHandler,
	notRun,
	type OnCommand,
	removeVersion,
} from "./handler.ts";
import { readHandlerState } from "./handler-files.ts";
import { type HostFolders, placeOf } from "./handler-place.ts";
import type { HostPorts } from "./host-ports.ts";
import { compareVersions } from "./installed-extension.ts";
import { isStaged, type PackageSource, stagePackage } from "./stage-package.ts";
import { findUpdate, forgetUpdate, isBeforeUninstall, updateHandler } from "./update-handler.ts";

export type BroughtUp = {
	readonly version: HandlerVersion;
	readonly uninstallExit: string;
	/** An update that failed and left the version before it. */
	readonly updateError?: StillpointError;
};

/** All versions that lie in the state folder, by name, ascending. */
export async function readInstalledVersions(host: HostFolders): Promise<Map<string, HandlerVersion[]>> {
	await readdir(host.extensionsDir);
	const found = await findInstalled(host.extensionsDir);
	const versions = found.map(({ manifest }) => ({ manifest, place: placeOf(host, manifest) }));
	return Map.groupBy(versions, ({ place }) => place.name);
}

const livingStates = ["Installed", "Enabled", "Disabled"];

/** The one that the machine has: not one that an update is on its way to, or did not reach. */
export async function findCurrentVersion(all: readonly HandlerVersion[]): Promise<HandlerVersion | undefined> {
	const states = await Promise.all(all.map(({ place }) => readHandlerState(place)));
	return all.findLast((_, index) => livingStates.includes(states[index] ?? "")) ?? all.at(-1);
}

/**
 * Installs, updates or leaves alone. An update that failed before is tried again only when `retryUpdate` or when the
 * package has changed.
 * @throws `extension-failed`, `extension-timeout`; `extension-missing` when there is nothing to install
 */
export async function bringUpVersion(given: {
	name: string;
	source: PackageSource | undefined;
	retryUpdate: boolean;
	units: readonly { instance?: string | undefined; sequenceNumber: number }[];
	ports: HostPorts;
	onCommand: OnCommand;
	/** Writes what the commands of a version find: its environment and settings. */
	prepare(version: HandlerVersion): Promise<void>;
}): Promise<BroughtUp> {
	const { name, source, ports, units, onCommand } = given;
	const host = ports.folders;
	const all = (await readInstalledVersions(host)).get(name) ?? [];
	const sequenceNumber = units[0]?.sequenceNumber ?? 0;
	const states = new Map<HandlerVersion, string>();
	for (const one of all) states.set(one, await readHandlerState(one.place));
	const isAlive = (one: HandlerVersion) => livingStates.includes(states.get(one) ?? "");
	const note = all[0] === undefined ? undefined : await findUpdate(all[0].place.private);
	const resumed = note === undefined ? undefined : all.find(({ place }) => place.version === note.to);
	let old =
		note === undefined
			? (all.findLast(isAlive) ?? all.findLast((one) => states.get(one) !== "FailedUpgrade"))
			: all.find(({ place }) => place.version === note.from);

	if (note !== undefined && resumed !== undefined) {
		const isSame = source === undefined || source.manifest.version === note.to;
		// Past the uninstall there is no way back; from there a later package is the way out of one that fails.
		const isLost = states.get(resumed) === "FailedUpgrade";
		if (isSame || !(isBeforeUninstall(note) || isLost)) return await update(old, resumed, note.from);
		await ports.hold.write(() => forgetUpdate(resumed.place.private));
		if (!isBeforeUninstall(note)) old = resumed;
	}
	if (source === undefined) {
		if (old === undefined) throw new StillpointError("extension-missing", `there is no package of ${name}`);
		return await installIfNeeded(old);
	}
	const next: HandlerVersion = { manifest: source.manifest, place: placeOf(host, source.manifest) };
	if (old === undefined || (!isAlive(old) && states.get(old) !== "FailedUpgrade")) {
		if (old !== undefined && old.place.version !== next.place.version) await removeVersion(old, ports);
		if (!(await isStaged(next.place, source))) await stagePackage(source, next.place, ports);
		return await dropOthers(await installIfNeeded(next));
	}
	if (compareVersions(old.place.version, next.place.version) === 0) {
		if (!(await isStaged(next.place, source))) await replaceSame(old, source);
		return await dropOthers(await installIfNeeded(next));
	}
	const isKnownToFail =
		(await readHandlerState(next.place)) === "FailedUpgrade" && (await isStaged(next.place, source));
	if (isKnownToFail && !given.retryUpdate) {
		const what = `the update to ${next.place.version} failed before; stillpoint extensions apply tries it again`;
		await given.prepare(old);
		return { version: old, uninstallExit: notRun, updateError: new StillpointError("extension-failed", what) };
	}
	if (isKnownToFail || !(await isStaged(next.place, source))) await stagePackage(source, next.place, ports);
	return await update(old, next, old.place.version);

	async function update(from: HandlerVersion | undefined, to: HandlerVersion, fromVersion: string): Promise<BroughtUp> {
		try {
			await given.prepare(to);
			const updated = await updateHandler({ old: from, next: to, fromVersion, units, ports, onCommand });
			return await dropOthers({ version: to, ...updated });
		} catch (error) {
			if (!(error instanceof StillpointError) || error.details["rolledBack"] !== true || from === undefined)
				throw error;
			// There is nothing that works to go back to.
			if (states.get(from) === "FailedUpgrade") throw error;
			await given.prepare(from);
			return { version: from, uninstallExit: notRun, updateError: error };
		}
	}

	async function installIfNeeded(version: HandlerVersion): Promise<BroughtUp> {
		const state = await readHandlerState(version.place);
		await given.prepare(version);
		if (state === "NotInstalled" || state === "FailedUpgrade") {
			const environment = { AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE: notRun };
			await installHandler(version, { sequenceNumber, environment }, ports, onCommand);
		}
		return { version, uninstallExit: notRun };
	}

	/** The same version with another content. */
	async function replaceSame(version: HandlerVersion, changed: PackageSource): Promise<void> {
		if (version.place.isForeign)
			for (const unit of units)
				await disableHandler(version, unit, ports, onCommand).catch((error: unknown) => {
					if (ports.stopping.aborted) throw error;
					ports.log.warn("the disable before a reinstallation failed", { extension: name, error });
				});
		await endProcessesOf(version.place, undefined, ports);
		await stagePackage(changed, version.place, ports);
	}

	/** One installed version for each name: what earlier programs left beside it goes. */
	async function dropOthers(brought: BroughtUp): Promise<BroughtUp> {
		for (const one of all) if (one.place.version !== brought.version.place.version) await removeVersion(one, ports);
		return brought;
	}
}
