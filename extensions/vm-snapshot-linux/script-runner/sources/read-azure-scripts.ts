/** Azure's script framework: https://learn.microsoft.com/azure/backup/backup-azure-linux-app-consistent */
import { stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { asStillpointError, type StillpointError } from "../../../../contracts/errors.ts";
import type { ApplicationScripts, BadScripts, CheckTrust } from "../application-scripts.ts";
import { type AzureFileRule, azureFault, findAzureFile } from "./azure-file.ts";
import { type AzurePluginHost, defaultPluginHost, parsePluginHost } from "./azure-plugin-host.ts";
import { type AzureScriptConfig, findMisspeltKeys, parseAzureScriptConfig } from "./azure-script-config.ts";
import type { FoundScripts } from "./found-scripts.ts";

export type AzureScripts = FoundScripts & {
	/** The file whose `fsFreezeEnabled` is false. */
	readonly freezeDisabledBy: string | undefined;
};

const hostRule: AzureFileRule = {
	forbidden: 0o033,
	wanted: "it may be 0644 at most",
	modeCode: 314,
	ownerCode: 315,
	parsingCode: 304,
};
const configRule: AzureFileRule = {
	forbidden: 0o177,
	wanted: "it must be 0600",
	modeCode: 317,
	ownerCode: 318,
	parsingCode: 305,
};
const scriptOrder = 500;

/**
 * No file, and the template as it is installed with empty locations, say nothing. A configuration that is invalid never
 * fails a job, as with Azure's extension; a script that is not there does what `continueBackupOnFailure` says.
 */
export async function readAzureScripts(folder: string, checkTrust: CheckTrust): Promise<AzureScripts> {
	const found = {
		applications: [] as ApplicationScripts[],
		bad: [] as BadScripts[],
		notes: [] as string[],
		freezeDisabledBy: undefined as string | undefined,
	};
	const fault = (name: string, error: unknown, onFailure: BadScripts["onFailure"] = "continue") =>
		void found.bad.push({ name, source: "azure-script", error: asStillpointError(error), onFailure });
	let host: AzurePluginHost;
	try {
		host = await readPluginHost(folder, checkTrust);
	} catch (error) {
		fault("azure-script", error);
		return found;
	}
	if (host.plugins.length === 0 && (await isThere(join(folder, configFile)))) {
		const what = "no plugin is named (numberOfPlugins in [pre_post])";
		found.notes.push(`${join(folder, hostFile)}: ${what}: ${join(folder, configFile)} is not used`);
	}
	for (const [index, plugin] of host.plugins.entries()) {
		const name = index === 0 ? "azure-script" : `azure-script-${index}`;
		const path = plugin.configPath;
		try {
			const text = await findAzureFile(path, checkTrust, configRule);
			if (text === undefined && path === join(folder, configFile)) continue;
			if (plugin.name !== "ScriptRunner") {
				const what = `the plugin ${plugin.name} is a Python module, which is not run; make a drop-in of what it does`;
				throw azureFault(304, `${join(folder, hostFile)}: ${what}`);
			}
			// The host file as it is installed names the standard one, which need not be there.
			if (text === undefined) throw azureFault(316, `${join(folder, hostFile)}: ${path} does not exist`);
			const config = parseAzureScriptConfig(text, path);
			found.notes.push(...findMisspeltKeys(text, path));
			if (!config.fsFreezeEnabled) found.freezeDisabledBy ??= path;
			if (config.preScriptLocation === "" && config.postScriptLocation === "") continue;
			const application = applicationOf(name, config, host);
			const missing = await findMissing(config, path);
			if (missing === undefined) found.applications.push(application);
			else fault(name, missing, application.onFailure);
		} catch (error) {
			fault(name, error);
		}
	}
	return found;
}

const hostFile = "VMSnapshotPluginHost.conf";
const configFile = "VMSnapshotScriptPluginConfig.json";

async function readPluginHost(folder: string, checkTrust: CheckTrust): Promise<AzurePluginHost> {
	const path = join(folder, hostFile);
	const text = await findAzureFile(path, checkTrust, hostRule);
	if (text === undefined) return defaultPluginHost(join(folder, configFile));
	return parsePluginHost(text, path);
}

function applicationOf(name: string, config: AzureScriptConfig, host: AzurePluginHost): ApplicationScripts {
	const deadlineMs = Math.min(Math.ceil(config.timeoutInSeconds * 1_000), host.timeoutMs);
	const step = (location: string, params: readonly string[], retries: number) => ({
		command: [location, ...params],
		deadlineMs,
		retries,
	});
	return {
		name,
		application: typeof config.appName === "string" && config.appName !== "" ? config.appName.slice(0, 64) : name,
		source: "azure-script",
		order: scriptOrder,
		// What nothing froze and no script made quiet is worth nothing.
		onFailure: config.continueBackupOnFailure && config.fsFreezeEnabled ? "continue" : "fail",
		pre: step(config.preScriptLocation, config.preScriptParams, config.preScriptNoOfRetries),
		post: step(config.postScriptLocation, config.postScriptParams, config.postScriptNoOfRetries),
		dryRun: false,
		keepsProcesses: true,
		ownerOnly: true,
	};
}

/** Both scripts must be there. Who may change them is looked at when they are run. */
async function findMissing(config: AzureScriptConfig, path: string): Promise<StillpointError | undefined> {
	for (const [key, azureCode] of [
		["preScriptLocation", 302],
		["postScriptLocation", 303],
	] as const) {
		const location = config[key];
		if (location === "") return azureFault(azureCode, `${path}: ${key} is empty`);
		if (!isAbsolute(location)) return azureFault(azureCode, `${path}: ${key} is not an absolute path`);
		const isFile = await stat(location).then(
			(stats) => stats.isFile(),
			() => false,
		);
		if (!isFile) return azureFault(azureCode, `${path}: ${key}: there is no file ${location}`);
	}
	return undefined;
}

function isThere(path: string): Promise<boolean> {
	return stat(path).then(
		() => true,
		() => false,
	);
}
