/** From a local folder to a package below the state folder. Nothing is downloaded, and nothing that others than root could change is taken. */
import { chmod, copyFile, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { HandlerManifest } from "../../contracts/extension.ts";
import { checkRootOwnedChain } from "../../platform/linux/path-trust.ts";
import { findSmallFile } from "../../platform/read-small-file.ts";
import { carryOver, writeHandlerEnvironment, writeHandlerState, writeSettings } from "./handler-files.ts";
import { draftPrefix, type HandlerPlace } from "./handler-place.ts";
import type { HostPorts } from "./host-ports.ts";
import { type PackageContent, readPackageContent } from "./package-content.ts";
import { readManifest } from "./read-manifest.ts";
import { replaceFile, syncFolder } from "./replace-file.ts";

/** A package that may be installed, checked. */
export type PackageSource = {
	readonly folder: string;
	readonly manifest: HandlerManifest;
	readonly content: PackageContent;
};

const hashName = "PackageHash";

/** @throws `extension-invalid`, `untrusted-path` */
export async function readPackageSource(folder: string): Promise<PackageSource> {
	if (process.getuid?.() === 0) await checkRootOwnedChain(folder);
	return { folder, content: await readPackageContent(folder), manifest: await readManifest(folder) };
}

export async function isStaged({ configFolder }: HandlerPlace, { content }: PackageSource): Promise<boolean> {
	const is = { code: "state-unusable", limitBytes: 4_096 } as const;
	return (await findSmallFile(join(configFolder, hashName), is).catch(() => undefined)) === content.hash;
}

/**
 * Copies a package to its place, where it appears whole, by rename, and is not installed yet. What lay there goes; its
 * mrseq and status files stay.
 */
export async function stagePackage(source: PackageSource, place: HandlerPlace, ports: HostPorts): Promise<void> {
	const { extensionsDir } = ports.folders;
	const { hold } = ports;
	await using undo = new AsyncDisposableStack();
	const draft = await hold.write(() => mkdtemp(join(extensionsDir, draftPrefix)));
	undo.defer(() => hold.write(() => rm(draft, { recursive: true, force: true })));
	// File by file: a snapshot must not wait for a whole package.
	for (const { path, isExecutable } of source.content.files) {
		ports.stopping.throwIfAborted();
		await hold.write(() => copyOne(join(source.folder, path), join(draft, path), isExecutable, place.isForeign));
	}
	const drafted = draftOf(place, draft);
	await hold.write(async () => {
		for (const folder of [drafted.configFolder, drafted.statusFolder])
			await mkdir(folder, { recursive: true, mode: 0o700 });
		await mkdir(place.eventsFolder, { recursive: true, mode: 0o700 });
		await carryOver(place, drafted);
		await writeHandlerEnvironment(place, draft);
		await writeSettings(drafted, { sequenceNumber: 0 }, undefined);
		await writeHandlerState(drafted, "NotInstalled");
		await replaceFile(join(drafted.configFolder, hashName), source.content.hash);
		await rm(place.folder, { recursive: true, force: true });
		await rename(draft, place.folder);
		await syncFolder(extensionsDir);
	});
}

/** What a killed agent left half copied. */
export async function removeDrafts(extensionsDir: string): Promise<void> {
	for (const entry of await readdir(extensionsDir))
		if (entry.startsWith(draftPrefix)) await rm(join(extensionsDir, entry), { recursive: true, force: true });
}

function draftOf(place: HandlerPlace, draft: string): HandlerPlace {
	return { ...place, folder: draft, configFolder: join(draft, "config"), statusFolder: join(draft, "status") };
}

/** Azure's agent makes every file of a package executable for root: zip archives tell no modes. */
async function copyOne(from: string, to: string, isExecutable: boolean, isForeign: boolean): Promise<void> {
	await mkdir(dirname(to), { recursive: true, mode: 0o700 });
	await copyFile(from, to);
	await chmod(to, isExecutable || isForeign ? 0o700 : 0o600);
}
