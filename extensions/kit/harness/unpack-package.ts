import { chmod, cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { checkShape } from "../../../contracts/check-shape.ts";
import { StillpointError } from "../../../contracts/errors.ts";
import { type HandlerManifest, handlerManifestFileSchema } from "../../../contracts/extension.ts";

export type Installed = { readonly manifest: HandlerManifest; readonly folder: string };

/**
 * A copy of the package as `NAME-VERSION`, with the folders and the environment file that a host adds.
 * @param shown a path of ours as the handler sees it
 */
export async function unpackPackage(
	packageFolder: string,
	workFolder: string,
	shown: (path: string) => string,
): Promise<Installed> {
	const manifest = await readManifest(packageFolder);
	const { name, version } = manifest;
	const folder = join(workFolder, `${name}-${version}`);
	await cp(packageFolder, folder, { recursive: true, verbatimSymlinks: true });
	for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
		if (entry.isFile()) await chmod(join(entry.parentPath, entry.name), 0o700);
	const logFolder = join(workFolder, "log", name);
	for (const made of [join(folder, "config"), join(folder, "status"), join(logFolder, "events")])
		await mkdir(made, { recursive: true, mode: 0o700 });
	const handlerEnvironment = {
		logFolder: shown(logFolder),
		configFolder: shown(join(folder, "config")),
		statusFolder: shown(join(folder, "status")),
		heartbeatFile: shown(join(folder, "heartbeat.log")),
		eventsFolder: shown(join(logFolder, "events")),
	};
	const environment = [{ name, version: 1.0, handlerEnvironment }];
	await writeFile(join(folder, "HandlerEnvironment.json"), JSON.stringify(environment));
	return { manifest, folder };
}

/** @throws `extension-invalid` naming the field */
export async function readManifest(packageFolder: string): Promise<HandlerManifest> {
	const path = join(packageFolder, "HandlerManifest.json");
	const invalid = (what: string) => new StillpointError("extension-invalid", `${path}: ${what}`);
	let content: unknown;
	try {
		content = JSON.parse(await readFile(path, "utf8"));
	} catch (error) {
		throw invalid(error instanceof Error ? error.message : String(error));
	}
	const parsed = checkShape(handlerManifestFileSchema, content);
	const issue = parsed.error?.issues[0];
	if (issue !== undefined) throw invalid(`${issue.path.join(".")}: ${issue.message}`);
	const [manifest] = parsed.data ?? [];
	if (manifest === undefined) throw invalid("is empty");
	return manifest;
}
