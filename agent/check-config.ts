/** For the admin: every fault of a configuration at once, and where each effective value comes from. */
import { checkShape } from "../contracts/check-shape.ts";
import { StillpointError } from "../contracts/errors.ts";
import { findSmallFile } from "../platform/read-small-file.ts";
import { configSchema, listConfigKeys } from "./config-schema.ts";
import { findKeyLines } from "./json-lines.ts";
import {
	type AgentFlags,
	type ConfigOrigin,
	type Environment,
	findConfigText,
	findStrangers,
	folderVariables,
	joinFolders,
	joinLayers,
	loadConfig,
	locateConfig,
	maxConfigBytes,
	nearestKey,
	parseConfigText,
} from "./load-config.ts";

type Given = { readonly flags: AgentFlags; readonly environment: Environment };

export type ConfigFault = {
	/** `log.level`, or `(file)` for what concerns all of it. */
	readonly key: string;
	readonly what: string;
	/** The known key that was probably meant. */
	readonly nearest?: string;
	/** In the file. */
	readonly line?: number;
	/** The variable that gives the value. */
	readonly variable?: string;
};

export type CheckedConfig = {
	readonly configFile: string;
	readonly exists: boolean;
	readonly faults: readonly ConfigFault[];
	readonly warnings: readonly string[];
};

/** @throws `config-missing` for a named file that is not there; everything else that is wrong is among the faults. */
export async function checkConfig(given: Given): Promise<CheckedConfig> {
	const { configFile, isNamed } = locateConfig(given);
	const faults: ConfigFault[] = [];
	const text = await readDespiteFaults(configFile, faults);
	if (text === undefined && isNamed && faults.length === 0)
		throw new StillpointError("config-missing", `${configFile} does not exist`);
	const known = findKeyLines(text ?? "");
	const tree = parseDespiteFaults(text, configFile, faults);
	const warnings = findStrangers(given.environment);
	if (tree !== undefined) {
		for (const { key, line } of known.twice)
			warnings.push(`${configFile}:${line}: ${key} stands there for the second time; only the last one counts`);
		faults.push(...findValueFaults(tree, given.environment, known.lines));
	}
	try {
		joinFolders(given);
	} catch (error) {
		faults.push({ key: "(folders)", what: (error as Error).message });
	}
	return { configFile, exists: text !== undefined, faults, warnings };
}

/** What others could change is a fault, and its content is looked at all the same: nothing is done with it here. */
async function readDespiteFaults(configFile: string, faults: ConfigFault[]): Promise<string | undefined> {
	try {
		return await findConfigText(configFile);
	} catch (error) {
		faults.push({ key: "(file)", what: (error as Error).message });
		if (!(error instanceof StillpointError) || error.code !== "untrusted-path") return undefined;
		return await findSmallFile(configFile, { code: "config-invalid", limitBytes: maxConfigBytes }).catch(
			() => undefined,
		);
	}
}

function parseDespiteFaults(
	text: string | undefined,
	configFile: string,
	faults: ConfigFault[],
): Record<string, unknown> | undefined {
	if (text === undefined) return faults.length > 0 ? undefined : { version: 1 };
	try {
		return parseConfigText(text, configFile);
	} catch (error) {
		const what = (error as Error).message.replace(`${configFile}: `, "").replace(`${configFile} `, "");
		const line = /\(line (\d+) column/.exec(what)?.[1];
		faults.push({ key: "(file)", what, ...(line === undefined ? {} : { line: Number(line) }) });
		return undefined;
	}
}

function findValueFaults(
	tree: Record<string, unknown>,
	environment: Environment,
	lines: ReadonlyMap<string, number>,
): ConfigFault[] {
	const faults: ConfigFault[] = [];
	const variables = new Map<string, string>();
	joinLayers(tree, environment, {
		onVariable: (key, variable) => void variables.set(key, variable),
		onFault: (key, variable, error) => void faults.push({ key, variable, what: error.message }),
	});
	const parsed = checkShape(configSchema, tree);
	for (const issue of parsed.error?.issues ?? []) {
		const path = issue.path.map(String);
		const keys = issue.code === "unrecognized_keys" ? issue.keys.map((one) => [...path, one]) : [path];
		for (const one of keys) {
			const key = one.join(".");
			const variable = variables.get(key);
			const line = variable === undefined ? lineOf(one, lines) : undefined;
			faults.push({
				key: key || "(file)",
				...(issue.code === "unrecognized_keys"
					? { what: "unknown key", nearest: nearestKey(key) }
					: { what: issue.message }),
				...(line === undefined ? {} : { line }),
				...(variable === undefined ? {} : { variable }),
			});
		}
	}
	return faults;
}

/** Of the key itself, or of what it is missing in. */
function lineOf(path: readonly string[], lines: ReadonlyMap<string, number>): number | undefined {
	for (let length = path.length; length > 0; length -= 1) {
		const line = lines.get(path.slice(0, length).join("."));
		if (line !== undefined) return line;
	}
	return undefined;
}

export type ConfigEntry = {
	readonly key: string;
	/** Absent: not set, and no default. Passwords are left out. */
	readonly value?: unknown;
	readonly origin: ConfigOrigin;
	/** `FILE:LINE`, or the variable's name. */
	readonly where?: string;
};

/** Every key in the order of the docs, then the folders. @throws as `loadConfig` */
export async function showConfig(given: Given): Promise<{ configFile: string; entries: ConfigEntry[] }> {
	const { config, configFile, folders, origins } = await loadConfig(given);
	const text = await findConfigText(configFile);
	const { lines } = findKeyLines(text ?? "");
	const entry = (key: string, value: unknown, variable: string): ConfigEntry => {
		const said = origins[key] ?? "default";
		const origin = said === "file" && text === undefined ? "default" : said;
		const line = lines.get(key);
		const file = line === undefined ? configFile : `${configFile}:${line}`;
		const where = origin === "file" ? file : origin === "environment" ? variable : undefined;
		return {
			key,
			...(value === undefined ? {} : { value: withoutPassword(value) }),
			origin,
			...(where === undefined ? {} : { where }),
		};
	};
	const keys = listConfigKeys().map(({ path, variable }) => {
		const value = path.reduce<unknown>((at, name) => (at as Record<string, unknown> | undefined)?.[name], config);
		return entry(path.join("."), value, variable);
	});
	const names = Object.keys(folderVariables) as (keyof typeof folderVariables)[];
	return { configFile, entries: [...keys, ...names.map((name) => entry(name, folders[name], folderVariables[name]))] };
}

function withoutPassword(value: unknown): unknown {
	return typeof value === "string" ? value.replace(/^(\w+:\/\/)[^/@]*@/, "$1***@") : value;
}
