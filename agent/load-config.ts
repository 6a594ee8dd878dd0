/** Configuration in layers: defaults < file < environment < flags. */

import { statSync } from "node:fs";
import { isAbsolute } from "node:path";
import { closest } from "fastest-levenshtein";
import type { z } from "zod";
import { checkShape } from "../contracts/check-shape.ts";
import { StillpointError } from "../contracts/errors.ts";
import { checkRootOwnedChain } from "../platform/linux/path-trust.ts";
import { findSmallFile } from "../platform/read-small-file.ts";
import { parseJson } from "../platform/read-small-json.ts";
import { type AgentConfig, configSchema, listConfigKeys } from "./config-schema.ts";

/** What the command line gives; all paths absolute. */
export type AgentFlags = {
	/** A file that is named must exist; the default one may be absent. */
	readonly config?: string;
	readonly stateDir?: string;
	readonly logDir?: string;
	readonly runDir?: string;
};

export type Environment = Readonly<Record<string, string | undefined>>;

export type AgentFolders = { readonly stateDir: string; readonly logDir: string; readonly runDir: string };

export type ConfigOrigin = "default" | "file" | "environment" | "flag";

export type LoadedConfig = {
	readonly config: AgentConfig;
	readonly configFile: string;
	readonly folders: AgentFolders;
	/** Where each value came from, by its key: `log.level`, `stateDir`. */
	readonly origins: Readonly<Record<string, ConfigOrigin>>;
	/** Variables that look like ours and are not. */
	readonly warnings: readonly string[];
};

export const maxConfigBytes = 1024 * 1024;

const defaultConfigFile = "/etc/stillpoint/agent.json";
const folderDefaults: AgentFolders = {
	stateDir: "/var/lib/stillpoint",
	logDir: "/var/log/stillpoint",
	runDir: "/run/stillpoint",
};
export const folderVariables = {
	stateDir: "STILLPOINT_STATE_DIR",
	logDir: "STILLPOINT_LOG_DIR",
	runDir: "STILLPOINT_RUN_DIR",
} as const;

/**
 * @throws `config-missing` for a named file that is not there, `config-invalid` naming the key (and the nearest known
 * one), `untrusted-path` when someone other than root could change the file.
 */
export async function loadConfig(given: ConfigSources): Promise<LoadedConfig> {
	const { environment } = given;
	const { configFile, isNamed } = locateConfig(given);
	const tree = await readConfigFile(configFile, isNamed);
	const origins = joinLayers(tree, environment, {
		onFault: (_key, _variable, error) => {
			throw error;
		},
	});
	const config = checkShape(configSchema, tree);
	if (!config.success) throw invalid(config.error, configFile);
	const { folders, folderOrigins } = joinFolders(given);
	Object.assign(origins, folderOrigins);
	return { config: config.data, configFile, folders, origins, warnings: findStrangers(environment) };
}

type ConfigSources = { readonly flags: AgentFlags; readonly environment: Environment };

/** `isNamed`: by a flag or a variable, so that it must exist. */
export function locateConfig({ flags, environment }: ConfigSources): { configFile: string; isNamed: boolean } {
	const named = flags.config ?? environment["STILLPOINT_CONFIG"];
	const what = flags.config === undefined ? "STILLPOINT_CONFIG" : "--config";
	return { configFile: absolute(named ?? defaultConfigFile, what), isNamed: named !== undefined };
}

/** Puts what the environment says over what the file says, in `tree`. Returns where each key's value came from. */
export function joinLayers(
	tree: Record<string, unknown>,
	environment: Environment,
	on: {
		onFault(key: string, variable: string, error: StillpointError): void;
		onVariable?(key: string, variable: string): void;
	},
): Record<string, ConfigOrigin> {
	const origins: Record<string, ConfigOrigin> = {};
	for (const { path, variable, isText } of listConfigKeys()) {
		const key = path.join(".");
		origins[key] = find(tree, path) === undefined ? "default" : "file";
		const text = environment[variable];
		if (text === undefined || key === "version") continue;
		try {
			put(tree, path, isText ? text : parseVariable(variable, text));
			origins[key] = "environment";
			on.onVariable?.(key, variable);
		} catch (error) {
			on.onFault(key, variable, error as StillpointError);
		}
	}
	return origins;
}

/** @throws `config-invalid` for a path that is not absolute */
export function joinFolders({ flags, environment }: ConfigSources): {
	folders: AgentFolders;
	folderOrigins: Record<string, ConfigOrigin>;
} {
	const folders = { ...folderDefaults };
	const folderOrigins: Record<string, ConfigOrigin> = {};
	for (const name of ["stateDir", "logDir", "runDir"] as const) {
		const value = flags[name] ?? environment[folderVariables[name]];
		folderOrigins[name] = flags[name] !== undefined ? "flag" : value !== undefined ? "environment" : "default";
		const what = flags[name] === undefined ? folderVariables[name] : name;
		if (value !== undefined) folders[name] = absolute(value, what);
	}
	return { folders, folderOrigins };
}

async function readConfigFile(path: string, named: boolean): Promise<Record<string, unknown>> {
	const text = await findConfigText(path);
	if (text !== undefined) return parseConfigText(text, path);
	if (!named) return { version: 1 };
	throw new StillpointError("config-missing", `${path} does not exist`);
}

/** Nothing of it is read before it is known that only root could have written it. */
export async function findConfigText(path: string): Promise<string | undefined> {
	try {
		// The trust check would complain about the folder of a file that is not there.
		if (statSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
		const checked = process.getuid?.() === 0 ? await checkRootOwnedChain(path) : path;
		return await findSmallFile(checked, { code: "config-invalid", limitBytes: maxConfigBytes });
	} catch (error) {
		if (error instanceof StillpointError) throw error;
		const { code } = error as NodeJS.ErrnoException;
		throw new StillpointError("config-invalid", `${path} cannot be read (${code})`, { cause: error });
	}
}

/** The file's object. Text that is no JSON object, or has no `version`, is `config-invalid`. */
export function parseConfigText(text: string, path: string): Record<string, unknown> {
	const value = parseJson(text, path, "config-invalid");
	if (typeof value !== "object" || value === null || Array.isArray(value))
		throw new StillpointError("config-invalid", `${path} must hold one JSON object`);
	if (!Object.hasOwn(value, "version"))
		throw new StillpointError("config-invalid", `${path}: version: is missing; this program reads version 1`);
	return value as Record<string, unknown>;
}

function invalid(error: z.ZodError, path: string): StillpointError {
	const issue = error.issues[0];
	const key = issue?.path.join(".") ?? "";
	const unknown = issue?.code === "unrecognized_keys" ? issue.keys[0] : undefined;
	if (unknown === undefined)
		return new StillpointError("config-invalid", `${path}: ${key || "(all)"}: ${issue?.message}`, {
			details: { key },
		});
	const full = [...(issue?.path ?? []), unknown].join(".");
	const nearest = nearestKey(full);
	return new StillpointError("config-invalid", `${path}: unknown key ${full}; the nearest known one is ${nearest}`, {
		details: { key: full, nearest },
	});
}

export function nearestKey(key: string): string {
	return closest(key, knownKeys());
}

function knownKeys(): string[] {
	const keys = listConfigKeys().map(({ path }) => path.join("."));
	const groups = keys.filter((key) => key.includes(".")).map((key) => key.slice(0, key.indexOf(".")));
	return [...new Set([...keys, ...groups])];
}

export function findStrangers(environment: Environment): string[] {
	const known = [
		...listConfigKeys().map(({ variable }) => variable),
		...Object.values(folderVariables),
		"STILLPOINT_CONFIG",
	];
	return Object.keys(environment)
		.filter((name) => name.startsWith("STILLPOINT_") && !known.includes(name))
		.map((name) => `the environment variable ${name} is not ours; the nearest is ${closest(name, known)}`);
}

function parseVariable(variable: string, text: string): unknown {
	try {
		return JSON.parse(text);
	} catch (cause) {
		throw new StillpointError("config-invalid", `${variable} is no JSON: ${text.slice(0, 80)}`, { cause });
	}
}

function absolute(path: string, what: string): string {
	if (!isAbsolute(path)) throw new StillpointError("config-invalid", `${what} must be an absolute path: ${path}`);
	return path;
}

function find(tree: Record<string, unknown>, path: readonly string[]): unknown {
	let at: unknown = tree;
	for (const name of path) {
		if (typeof at !== "object" || at === null || !Object.hasOwn(at, name)) return undefined;
		at = (at as Record<string, unknown>)[name];
	}
	return at;
}

function put(tree: Record<string, unknown>, path: readonly string[], value: unknown): void {
	const [name, ...rest] = path as [string, ...string[]];
	if (rest.length === 0) {
		tree[name] = value;
		return;
	}
	const below = tree[name];
	const inner = typeof below === "object" && below !== null && !Array.isArray(below) ? below : {};
	tree[name] = inner;
	put(inner as Record<string, unknown>, rest, value);
}
