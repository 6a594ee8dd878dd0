/** From a local folder to an enabled extension. Nothing is downloaded, and nothing that others than root could change is run. */
import { chmod, copyFile, mkdir, mkdtemp, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { z } from "zod";
import { asStillpointError } from "../../contracts/errors.ts";
import type { handlerEnvironmentFileSchema } from "../../contracts/extension.ts";
import { checkRootOwnedChain } from "../../platform/linux/path-trust.ts";
import type { Log } from "../log.ts";
import { findInstalled, findPackages } from "./find-extensions.ts";
import type { InstalledExtension } from "./installed-extension.ts";
import { type PackageContent, readPackageContent } from "./package-content.ts";
import { readManifest } from "./read-manifest.ts";
import { runHandlerCommand } from "./run-handler-command.ts";

const installLimitMs = 900_000;
const enableLimitMs = 300_000;

export type InstallPorts = { extensionsDir: string; logDir: string; log: Log; signal: AbortSignal };

/**
 * Installs what the folders hold and enables all that is installed. One that fails is logged and listed with its
 * fault; the others go on.
 */
export async function installExtensions(
	folders: readonly string[],
	ports: InstallPorts,
): Promise<InstalledExtension[]> {
	const faults = new Map<string, string>();
	for (const folder of folders)
		for (const source of await findPackages([folder]).catch((error) => note(folder, error)))
			await installExtension(source, ports).catch((error) => note(source, error));
	const installed = await findInstalled(ports.extensionsDir);
	const states = await Promise.all(
		installed.map((one) =>
			enable(one, ports).catch((error: unknown) => {
				note(one.folder, error);
				return { ...one, state: faults.get(one.folder) ?? "Failed" };
			}),
		),
	);
	ports.signal.throwIfAborted();
	return states;

	function note(what: string, error: unknown): never[] {
		const { code, message, details } = asStillpointError(error);
		ports.log.error("an extension could not be installed or enabled", { extension: what, code, message, ...details });
		faults.set(what, `Failed: ${code}`);
		return [];
	}
}

/**
 * Copies a package to `<extensions>/NAME-VERSION` (it appears whole, by rename) and runs its install command, unless
 * the same content was installed before.
 * @throws `extension-invalid`, `untrusted-path`, `extension-failed`
 */
export async function installExtension(source: string, ports: InstallPorts): Promise<string> {
	if (process.getuid?.() === 0) await checkRootOwnedChain(source);
	const content = await readPackageContent(source);
	const manifest = await readManifest(source);
	const folder = join(ports.extensionsDir, `${manifest.name}-${manifest.version}`);
	const { name, version } = manifest;
	if ((await readText(join(folder, "config", "PackageHash"))) === content.hash) return folder;
	const draft = await copyPackage(source, content, ports.extensionsDir);
	await using undo = new AsyncDisposableStack();
	undo.defer(() => rm(draft, { recursive: true, force: true }));
	await mkdir(join(draft, "config"), { recursive: true, mode: 0o700 });
	await mkdir(join(draft, "status"), { recursive: true, mode: 0o700 });
	const logFolder = join(ports.logDir, name);
	await mkdir(join(logFolder, "events"), { recursive: true, mode: 0o700 });
	await writeFile(join(draft, "HandlerEnvironment.json"), environmentFile(folder, logFolder));
	await writeFile(
		join(draft, "config", "0.settings"),
		`${JSON.stringify({ runtimeSettings: [{ handlerSettings: {} }] })}\n`,
	);
	await writeFile(join(draft, "config", "HandlerState"), "NotInstalled");
	await rm(folder, { recursive: true, force: true });
	await rename(draft, folder);
	await syncFolder(ports.extensionsDir);
	await runHandlerCommand({
		extension: { name, version, folder },
		command: manifest.handlerManifest.installCommand,
		what: "installCommand",
		limitMs: installLimitMs,
		signal: ports.signal,
	});
	await writeState(folder, "HandlerState", "Installed");
	await writeState(folder, "PackageHash", content.hash);
	ports.log.info("extension installed", { extension: name, version, folder });
	return folder;
}

/** `enable` is level-triggered: it is run at every start. */
async function enable(extension: InstalledExtension, ports: InstallPorts): Promise<InstalledExtension> {
	if (extension.state !== "Installed" && extension.state !== "Enabled") return extension;
	await runHandlerCommand({
		extension,
		command: extension.manifest.handlerManifest.enableCommand,
		what: "enableCommand",
		limitMs: enableLimitMs,
		signal: ports.signal,
	});
	if (extension.state !== "Enabled") await writeState(extension.folder, "HandlerState", "Enabled");
	return { ...extension, state: "Enabled" };
}

async function copyPackage(source: string, content: PackageContent, extensionsDir: string): Promise<string> {
	const draft = await mkdtemp(join(extensionsDir, ".new-"));
	for (const { path, isExecutable } of content.files) {
		const target = join(draft, path);
		await mkdir(dirname(target), { recursive: true, mode: 0o700 });
		await copyFile(join(source, path), target);
		await chmod(target, isExecutable ? 0o700 : 0o600);
	}
	return draft;
}

function environmentFile(folder: string, logFolder: string): string {
	const file: z.input<typeof handlerEnvironmentFileSchema> = [
		{
			name: "",
			version: 1.0,
			handlerEnvironment: {
				logFolder,
				configFolder: join(folder, "config"),
				statusFolder: join(folder, "status"),
				heartbeatFile: join(folder, "heartbeat.log"),
				eventsFolder: join(logFolder, "events"),
			},
		},
	];
	return `${JSON.stringify(file)}\n`;
}

/** A reader sees the old or the new word. */
async function writeState(folder: string, name: string, text: string): Promise<void> {
	const path = join(folder, "config", name);
	await writeFile(`${path}.new`, text, { mode: 0o600, flush: true });
	await rename(`${path}.new`, path);
}

async function readText(path: string): Promise<string | undefined> {
	return await readFile(path, "utf8").catch(() => undefined);
}

async function syncFolder(path: string): Promise<void> {
	await using folder = await open(path);
	await folder.sync();
}
