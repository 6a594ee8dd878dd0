import { join } from "node:path";
import type { HandlerManifest } from "../../contracts/extension.ts";

/** Where Azure's agent keeps them; handlers written for it have both in their code. */
export const azureStateFolder = "/var/lib/waagent";
export const azureLogFolder = "/var/log/azure";

/** Of folders that are on their way in or out; what a killed agent left of them is removed at the next start. */
export const draftPrefix = ".new-";

export type HandlerFolders = {
	/** The installed package. */
	readonly folder: string;
	readonly configFolder: string;
	readonly statusFolder: string;
	readonly heartbeatFile: string;
	readonly logFolder: string;
	readonly eventsFolder: string;
};

/** Where one version of a handler lies on the machine, and where the handler itself sees it. */
export type HandlerPlace = HandlerFolders & {
	readonly name: string;
	readonly version: string;
	/** Written for Azure's host, not for ours: it runs in a private mount namespace. */
	readonly isForeign: boolean;
	/** Paths as its own processes see them; the same ones for an extension of ours. */
	readonly seen: HandlerFolders;
	readonly private: PrivateFolders;
};

/** Belongs to the name and outlives versions. */
export type PrivateFolders = {
	readonly folder: string;
	/** What the handler sees at /var/lib/waagent: its keys, mount points for its packages, and what it puts there. */
	readonly stateView: string;
	/** What it sees at /var/log/azure. */
	readonly logView: string;
};

export type HostFolders = { readonly stateDir: string; readonly extensionsDir: string; readonly logDir: string };

export function placeOf(host: HostFolders, manifest: HandlerManifest): HandlerPlace {
	const { name, version } = manifest;
	const isForeign = manifest.handlerManifest.snapshotCommand === undefined;
	const entry = `${name}-${version}`;
	const real = foldersBelow(join(host.extensionsDir, entry), join(host.logDir, name));
	const seen = isForeign ? foldersBelow(join(azureStateFolder, entry), join(azureLogFolder, name)) : real;
	return { name, version, isForeign, ...real, seen, private: privateFoldersOf(host, name) };
}

export function privateFoldersOf({ extensionsDir }: Pick<HostFolders, "extensionsDir">, name: string): PrivateFolders {
	const folder = join(extensionsDir, ".private", name);
	return {
		folder,
		stateView: join(folder, "waagent"),
		logView: join(folder, "azure"),
	};
}

function foldersBelow(folder: string, logFolder: string): HandlerFolders {
	return {
		folder,
		configFolder: join(folder, "config"),
		statusFolder: join(folder, "status"),
		heartbeatFile: join(folder, "heartbeat.log"),
		logFolder,
		eventsFolder: join(logFolder, "events"),
	};
}
