/**
 * A host of extensions that knows nothing of Stillpoint: it follows Azure's handler contract with commands and files
 * only. For an author's own tests, and for ours.
 */
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { StillpointError } from "../../../contracts/errors.ts";
import { endProcesses, type FoundProcess, findProcesses } from "./find-processes.ts";
import {
	findHeartbeat,
	findStatusFile,
	type ReadHeartbeat,
	type ReadStatus,
	takeEvents,
	waitForStatusFile,
} from "./handler-files.ts";
import { type HostKeys, makeHostKeys } from "./host-keys.ts";
import { type CommandResult, runCommand } from "./run-command.ts";
import { type Installed, unpackPackage } from "./unpack-package.ts";

export type { FoundProcess } from "./find-processes.ts";
export type { ReadHeartbeat, ReadStatus } from "./handler-files.ts";
export type { CommandResult } from "./run-command.ts";

export type EnableWith = {
	readonly sequenceNumber: number;
	readonly publicSettings?: unknown;
	/** Encrypted on the way. */
	readonly protectedSettings?: unknown;
	/** Of a named instance ("multi-config"). */
	readonly extensionName?: string;
	/** The settings file as it is to lie there, instead of what the above would make. */
	readonly settingsText?: string | Uint8Array;
};

export type HandlerHost = AsyncDisposable & {
	readonly name: string;
	readonly version: string;
	/** Of the installed version. */
	readonly folder: string;
	readonly statusFolder: string;
	readonly configFolder: string;
	readonly logFolder: string;
	readonly keys: HostKeys;
	install(): Promise<CommandResult>;
	/** Writes the settings, then runs the command. Its status is another matter: see `waitForStatus`. */
	enable(settings: EnableWith): Promise<CommandResult>;
	/** What `enable` would write. */
	settingsText(settings: EnableWith): Promise<string>;
	/** Runs enable again without touching a file, as hosts do at each of their starts. */
	enableAgain(): Promise<CommandResult>;
	disable(extensionName?: string): Promise<CommandResult>;
	/** Azure's order: old disable, new update, old uninstall, new install, new enable. Ends at the first that fails. */
	update(packageFolder: string): Promise<CommandResult[]>;
	uninstall(): Promise<CommandResult>;
	/** @throws `extension-invalid` when the file has another shape */
	readStatus(sequenceNumber: number, extensionName?: string): Promise<ReadStatus | undefined>;
	waitForStatus(sequenceNumber: number, options?: { limitMs?: number; extensionName?: string }): Promise<ReadStatus>;
	readHeartbeat(): Promise<ReadHeartbeat | undefined>;
	/** Taken: each is told once. */
	readEvents(): Promise<Record<string, unknown>[]>;
	/** All log files of the extension, one after another. */
	log(): Promise<string>;
	/** What it started and what still runs, wherever it went. */
	processes(): Promise<FoundProcess[]>;
	/** Without those whose ids are known to be others'. */
	newProcesses(known: ReadonlySet<string>): FoundProcess[];
	/** SIGKILL to all of them, a command that runs included. Returns those that did not end. */
	endProcesses(): Promise<FoundProcess[]>;
};

export type HostOptions = {
	/** Copied; never written to. */
	readonly packageFolder: string;
	/** Empty or absent; laid out as /var/lib/waagent. Removed by nobody: it is what a failed test is read from. */
	readonly workFolder: string;
	/** Shows `workFolder` at /var/lib/waagent to the handler, in a mount namespace of its own. Needs root; leaves an empty folder. */
	readonly privateNamespace?: boolean;
	readonly environment?: Readonly<Record<string, string>>;
	/** Instead of Azure's limits (install, update, disable 900 s; enable, uninstall 300 s). */
	readonly limitMs?: number;
};

const azureFolder = "/var/lib/waagent";
const limitsMs = { install: 900_000, update: 900_000, disable: 900_000, enable: 300_000, uninstall: 300_000 } as const;
type CommandName = keyof typeof limitsMs;

/** @throws `extension-invalid`, `tool-missing` (openssl) */
export async function openHandlerHost(options: HostOptions): Promise<HandlerHost> {
	const { workFolder } = options;
	await mkdir(workFolder, { recursive: true, mode: 0o700 });
	const keys = await makeHostKeys(workFolder);
	const mark = `STILLPOINT_HARNESS=${randomUUID()}`;
	const shown = (path: string) => (options.privateNamespace ? azureFolder + path.slice(workFolder.length) : path);
	let installed = await unpackPackage(options.packageFolder, workFolder, shown);
	let lastEnabled: { sequenceNumber: number; extensionName: string | undefined } | undefined;

	const logFolder = () => join(workFolder, "log", installed.manifest.name);
	const run = (name: CommandName, of: Installed, variables: Record<string, string> = {}) =>
		runCommand({
			name,
			words: shellWords(name, of, options.privateNamespace === true ? { workFolder, shown } : undefined),
			folder: of.folder,
			limitMs: options.limitMs ?? limitsMs[name],
			logFolder: logFolder(),
			variables: {
				PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
				LANG: "C.UTF-8",
				...options.environment,
				STILLPOINT_HARNESS: mark.slice(mark.indexOf("=") + 1),
				AZURE_GUEST_AGENT_EXTENSION_PATH: shown(of.folder),
				AZURE_GUEST_AGENT_EXTENSION_VERSION: String(of.manifest.version),
				AZURE_GUEST_AGENT_EXTENSION_SUPPORTED_FEATURES: "[]",
				...variables,
			},
		});
	const enable = () => {
		const { sequenceNumber = 0, extensionName } = lastEnabled ?? {};
		const instance: Record<string, string> = extensionName === undefined ? {} : { ConfigExtensionName: extensionName };
		return run("enable", installed, { ConfigSequenceNumber: String(sequenceNumber), ...instance });
	};
	const statusPath = (sequenceNumber: number, extensionName?: string) =>
		join(installed.folder, "status", `${prefixOf(extensionName)}${sequenceNumber}.status`);

	return {
		get name() {
			return installed.manifest.name;
		},
		get version() {
			return String(installed.manifest.version);
		},
		get folder() {
			return installed.folder;
		},
		get statusFolder() {
			return join(installed.folder, "status");
		},
		get configFolder() {
			return join(installed.folder, "config");
		},
		get logFolder() {
			return logFolder();
		},
		keys,
		install: () => run("install", installed),
		async enable(settings) {
			const { sequenceNumber, extensionName } = settings;
			const path = join(installed.folder, "config", `${prefixOf(extensionName)}${sequenceNumber}.settings`);
			await writeFile(path, settings.settingsText ?? (await settingsText(settings, keys)), { mode: 0o600 });
			lastEnabled = { sequenceNumber, extensionName };
			return enable();
		},
		settingsText: (settings) => settingsText(settings, keys),
		enableAgain: enable,
		disable: (extensionName) =>
			run("disable", installed, extensionName === undefined ? {} : { ConfigExtensionName: extensionName }),
		async update(packageFolder) {
			const old = installed;
			const next = await unpackPackage(packageFolder, workFolder, shown);
			const results = [await run("disable", old)];
			const failed = () => results.at(-1)?.exitCode !== 0;
			if (failed()) return results;
			for (const name of await readdir(old.folder))
				if (/^([\w.-]+\.)?mrseq$/.test(name)) await cp(join(old.folder, name), join(next.folder, name));
			await cp(join(old.folder, "status"), join(next.folder, "status"), { recursive: true });
			await cp(join(old.folder, "config"), join(next.folder, "config"), { recursive: true });
			const from = { VERSION: String(next.manifest.version), AZURE_GUEST_AGENT_DISABLE_CMD_EXIT_CODE: "0" };
			const version = { AZURE_GUEST_AGENT_UPDATING_FROM_VERSION: String(old.manifest.version) };
			results.push(await run("update", next, { ...from, ...version }));
			if (failed()) return results;
			results.push(await run("uninstall", old));
			if (failed()) return results;
			if (old.folder !== next.folder) await rm(old.folder, { recursive: true, force: true });
			installed = next;
			results.push(await run("install", next, version));
			if (failed() || lastEnabled === undefined) return results;
			results.push(await enable());
			return results;
		},
		uninstall: () => run("uninstall", installed),
		readStatus: (sequenceNumber, extensionName) => findStatusFile(statusPath(sequenceNumber, extensionName)),
		waitForStatus: (sequenceNumber, { limitMs = 60_000, extensionName } = {}) =>
			waitForStatusFile(statusPath(sequenceNumber, extensionName), limitMs),
		readHeartbeat: () => findHeartbeat(join(installed.folder, "heartbeat.log")),
		readEvents: () => takeEvents(join(logFolder(), "events")),
		async log() {
			const names = (await readdir(logFolder(), { withFileTypes: true })).filter((one) => one.isFile());
			const texts = await Promise.all(names.map(({ name }) => readFile(join(logFolder(), name), "utf8")));
			return texts.join("\n");
		},
		processes: async () => findProcesses(mark, workFolder),
		newProcesses: (known) => findProcesses(mark, workFolder, known),
		endProcesses: () => endProcesses(mark, workFolder),
		async [Symbol.asyncDispose]() {
			const left = await endProcesses(mark, workFolder);
			if (left.length > 0)
				throw new StillpointError("deadline-passed", `processes do not end: ${left.map(({ pid }) => pid).join(", ")}`);
		},
	};
}

function prefixOf(extensionName: string | undefined): string {
	return extensionName === undefined ? "" : `${extensionName}.`;
}

/**
 * Azure's agents start every command in the package folder, whatever its first word is; a command whose first word is no
 * file of the package is left to the shell, as Stillpoint's host does.
 */
function shellWords(
	name: CommandName,
	{ manifest, folder }: Installed,
	inside: { workFolder: string; shown(path: string): string } | undefined,
): [string, ...string[]] {
	const command = manifest.handlerManifest[`${name}Command`];
	const inPackage = command.replace(/^\/+/, "");
	const isFile = existsSync(join(folder, inPackage.split(" ")[0] ?? ""));
	const start = isFile ? `exec "$1"/${inPackage}` : `exec ${command}`;
	if (inside === undefined) return ["/bin/sh", "-c", start, "handler", folder];
	// The empty folder stays: to remove it would unmount it under a handler of another host. Another may remove it.
	const mount = `mkdir -p -m 700 ${azureFolder} && mount --bind "$2" ${azureFolder}`;
	const mounted = `{ ${mount} || { ${mount}; }; } && cd "$1" && ${start}`;
	const script = ["/bin/sh", "-c", mounted, "handler", inside.shown(folder), inside.workFolder];
	return ["unshare", "--mount", "--propagation", "slave", ...script];
}

async function settingsText(settings: EnableWith, keys: HostKeys): Promise<string> {
	const { publicSettings, protectedSettings } = settings;
	const secret =
		protectedSettings === undefined
			? {}
			: {
					protectedSettings: await keys.encrypt(JSON.stringify(protectedSettings)),
					protectedSettingsCertThumbprint: keys.thumbprint,
				};
	const handlerSettings = { ...(publicSettings === undefined ? {} : { publicSettings }), ...secret };
	return JSON.stringify({ runtimeSettings: [{ handlerSettings }] });
}
