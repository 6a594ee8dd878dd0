/** `VMSnapshotPluginHost.conf`: which plugins of Azure's script framework there are, and where their files lie. */
import { isAbsolute } from "node:path";
import { azureFault } from "./azure-file.ts";
import { type Ini, parseIni } from "./parse-ini.ts";

export type AzurePlugin = {
	/** The only one that can be run is `ScriptRunner`: any other is a Python module. */
	readonly name: string;
	readonly configPath: string;
};

export type AzurePluginHost = {
	/** No script may take longer, all its attempts together. */
	readonly timeoutMs: number;
	readonly plugins: readonly AzurePlugin[];
};

/** Also what the file may not exceed. */
export const maxTimeoutSeconds = 1_800;
const maxPlugins = 16;
const section = "pre_post";

/** What Azure's extension brings along, for a machine without the file. */
export function defaultPluginHost(configPath: string): AzurePluginHost {
	return { timeoutMs: maxTimeoutSeconds * 1_000, plugins: [{ name: "ScriptRunner", configPath }] };
}

/** @throws `script-config-invalid` with Azure's code 304, naming file and key */
export function parsePluginHost(text: string, path: string): AzurePluginHost {
	const fault = (what: string, cause?: unknown) => azureFault(304, `${path}: ${what}`, cause);
	let ini: Ini;
	try {
		ini = parseIni(text, path);
	} catch (cause) {
		throw azureFault(304, (cause as Error).message, cause);
	}
	const keys = ini.get(section) ?? new Map<string, string>();
	const readNumber = (key: string, otherwise: number) => {
		const value = keys.get(key.toLowerCase());
		if (value === undefined) return otherwise;
		if (!/^[+-]?\d{1,9}$/.test(value)) throw fault(`${key} is not a whole number`);
		return Number(value);
	};
	const timeoutSeconds = Math.min(readNumber("timeoutInSeconds", maxTimeoutSeconds), maxTimeoutSeconds);
	if (timeoutSeconds <= 0) throw fault("timeoutInSeconds leaves no time");
	// Without the key Azure's extension looks for none.
	const count = readNumber("numberOfPlugins", 0);
	if (count > maxPlugins) throw fault(`numberOfPlugins is more than ${maxPlugins}`);
	const plugins = Array.from({ length: Math.max(0, count) }, (_, index) => {
		const name = keys.get(`pluginname${index}`);
		const configPath = keys.get(`pluginconfigpath${index}`);
		if (!name) throw fault(`pluginName${index} is missing`);
		if (!configPath) throw fault(`pluginConfigPath${index} is missing`);
		if (!isAbsolute(configPath)) throw fault(`pluginConfigPath${index} is not an absolute path`);
		return { name, configPath };
	});
	return { timeoutMs: timeoutSeconds * 1_000, plugins };
}
