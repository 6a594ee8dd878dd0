import { asStillpointError } from "../../contracts/errors.ts";
import type { Log } from "../log.ts";
import { findPackages } from "./find-extensions.ts";
import { compareVersions } from "./installed-extension.ts";
import { type PackageSource, readPackageSource } from "./stage-package.ts";

/** By the handler's name: the highest version that the folders hold. A folder or package that is at fault is logged and left out. */
export async function choosePackages(folders: readonly string[], log: Log): Promise<Map<string, PackageSource>> {
	const chosen = new Map<string, PackageSource>();
	for (const folder of folders)
		for (const path of await findPackages([folder]).catch((error) => note(folder, error))) {
			const source = await readPackageSource(path).catch((error) => note(path, error)[0]);
			if (source === undefined) continue;
			const { name, version } = source.manifest;
			const other = chosen.get(name);
			if (other === undefined || compareVersions(version, other.manifest.version) > 0) chosen.set(name, source);
		}
	return chosen;

	function note(what: string, error: unknown): never[] {
		const { code, message, details } = asStillpointError(error);
		log.error("an extension could not be installed or enabled", { extension: what, code, message, ...details });
		return [];
	}
}
