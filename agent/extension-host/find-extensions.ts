import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import { readHandlerState } from "./handler-files.ts";
import { compareVersions, type InstalledExtension } from "./installed-extension.ts";
import { readManifest } from "./read-manifest.ts";

/** Package folders: each given folder that has a manifest, or else its subfolders that have one. */
export async function findPackages(folders: readonly string[]): Promise<string[]> {
	const found: string[] = [];
	for (const folder of folders) {
		if (await hasManifest(folder)) {
			found.push(folder);
			continue;
		}
		const names = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
			throw new StillpointError("extension-invalid", `${folder} cannot be read: ${cause.code}`, { cause });
		});
		for (const name of names.sort()) if (await hasManifest(join(folder, name))) found.push(join(folder, name));
	}
	return found;
}

/** What lies installed below the state folder, by name and ascending version. A broken one is left out. */
export async function findInstalled(extensionsDir: string): Promise<InstalledExtension[]> {
	const names = await readdir(extensionsDir).catch(() => []);
	const found: InstalledExtension[] = [];
	for (const entry of names.filter((one) => !one.startsWith("."))) {
		const folder = join(extensionsDir, entry);
		const manifest = await readManifest(folder).catch(() => undefined);
		if (manifest === undefined) continue;
		const state = await readHandlerState({ configFolder: join(folder, "config") });
		found.push({ name: manifest.name, version: manifest.version, folder, manifest, state });
	}
	return found.sort((a, b) => a.name.localeCompare(b.name) || compareVersions(a.version, b.version));
}

/** The newest enabled extension that can take snapshots, of that name when one is given. */
export function findSnapshotExtension(
	installed: readonly InstalledExtension[],
	name: string | undefined,
): InstalledExtension | undefined {
	const able = installed.filter(
		(one) =>
			one.state === "Enabled" &&
			one.manifest.handlerManifest.snapshotCommand !== undefined &&
			(name === undefined || one.name === name),
	);
	return able.findLast((one) => one.name === able[0]?.name);
}

/** The same. @throws `extension-missing` */
export function requireSnapshotExtension(
	installed: readonly InstalledExtension[],
	name: string | undefined,
): InstalledExtension {
	const found = findSnapshotExtension(installed, name);
	if (found !== undefined) return found;
	throw new StillpointError("extension-missing", `no enabled extension ${name ?? ""} has a snapshotCommand`, {
		details: { installed: installed.map((one) => `${one.name} ${one.version}: ${one.state}`) },
	});
}

function hasManifest(folder: string): Promise<boolean> {
	return stat(join(folder, "HandlerManifest.json")).then(
		(found) => found.isFile(),
		() => false,
	);
}
