/** The secrets of this machine that can be known: they must not stand in a bundle, whatever shape they have there. */
import { constants, type Dirent } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { configSchema } from "../../agent/config-schema.ts";
import { isSecretName } from "./redact.ts";

/** Shorter ones are words that could stand anywhere. */
const shortest = 5;
const maxFiles = 5_000;
const maxDepth = 8;
const maxBytes = 256 * 1024;

export type SecretSources = {
	readonly stateDir: string;
	/** Read as it is, also when it has faults. */
	readonly configFile: string;
	readonly environment: Readonly<Record<string, string | undefined>>;
};

/** What can't be read is no fault: the shapes of secrets are taken out all the same. */
export async function readKnownSecrets({ stateDir, configFile, environment }: SecretSources): Promise<string[]> {
	const config = parse((await readText(configFile)) ?? "");
	const own = await readFolder(stateDir, maxDepth, { left: maxFiles });
	const texts = await Promise.all(
		dropInFolders(config[0], environment).map((one) => readFolder(one, 1, { left: 512 })),
	);
	const documents = [...config, ...[...own, ...texts.flat()].flatMap(({ text }) => parse(text))];
	const named = await Promise.all(credentialFiles(documents).map(readText));
	const found = [
		...own.flatMap(({ text }) => pemLines(text)),
		...documents.flatMap(secretsOf),
		...named.flatMap((text) => credentialsOf(text ?? "")),
		...Object.entries(environment).flatMap(([name, value]) => (value === undefined ? [] : ofVariable(name, value))),
	];
	return [...new Set(found)].filter((one) => one.length >= shortest).sort();
}

/** The usual ones, and what configuration and environment name. */
function dropInFolders(config: unknown, environment: SecretSources["environment"]): string[] {
	const { scriptsFolder, extensions } = (config ?? {}) as {
		scriptsFolder?: unknown;
		extensions?: { settingsFolder?: unknown };
	};
	const usual = configSchema.parse({ version: 1 });
	const named = [
		...[usual.scriptsFolder, scriptsFolder, environment["STILLPOINT_SCRIPTS_FOLDER"]],
		...[
			usual.extensions.settingsFolder,
			extensions?.settingsFolder,
			environment["STILLPOINT_EXTENSIONS_SETTINGS_FOLDER"],
		],
	];
	return [...new Set(named.filter((one): one is string => typeof one === "string" && one.startsWith("/")))];
}

/** Of every private key the lines that nobody else has: whatever is done to the line ends, these stay. */
function pemLines(text: string): string[] {
	const blocks = text.replaceAll("\\n", "\n").match(/-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*-----END/g) ?? [];
	return blocks.flatMap((one) => one.split("\n").filter((line) => /^[A-Za-z0-9+/=]{16,}$/.test(line)));
}

/** Values of secret names, and all that stands in protected settings. However deep a document nests. */
function secretsOf(document: unknown): string[] {
	const found: string[] = [];
	const left: { value: unknown; isSecret: boolean }[] = [{ value: document, isSecret: false }];
	for (let one = left.pop(); one !== undefined; one = left.pop()) {
		const { value, isSecret } = one;
		if (typeof value === "string") found.push(...(isSecret ? linesOf(value) : passwordsOfUrl(value)));
		else if (Array.isArray(value))
			value.forEach(
				(inner, index) => void left.push({ value: inner, isSecret: isSecret || namesSecret(value[index - 1]) }),
			);
		else if (typeof value === "object" && value !== null)
			// A certificate is shown to everybody, and what `key` names in an enrolment is found by its lines.
			for (const [name, inner] of Object.entries(value))
				left.push({ value: inner, isSecret: isSecret || name === "protectedSettings" || isSecretName(name) });
	}
	return found;
}

function namesSecret(option: unknown): boolean {
	return typeof option === "string" && /^--?[\w-]+$/.test(option) && isSecretName(option);
}

/** All of it, and each line: whatever is done to the line ends, these stay. Not what every PEM file has. */
function linesOf(value: string): string[] {
	if (!value.includes("\n")) return [value];
	return value.split("\n").filter((line) => !line.startsWith("-----"));
}

function credentialFiles(documents: readonly unknown[]): string[] {
	const found: string[] = [];
	const left: unknown[] = [...documents];
	for (let value = left.pop(); value !== undefined; value = left.pop()) {
		if (typeof value !== "object" || value === null) continue;
		for (const inner of Object.values(value)) left.push(inner);
		if (!Array.isArray(value)) continue;
		value.forEach((one: unknown, index) => {
			const before: unknown = value[index - 1];
			if (typeof one !== "string") return;
			if (typeof before === "string" && /^--[\w-]*credentials?[\w-]*$/.test(before)) found.push(one);
			const own = /^--[\w-]*credentials?[\w-]*=(\/.*)$/.exec(one)?.[1];
			if (own !== undefined) found.push(own);
		});
	}
	return found.filter((path) => path.startsWith("/"));
}

/** `password = x`, and the last field of a line of .pgpass. */
function credentialsOf(text: string): string[] {
	return text.split("\n").flatMap((line) => {
		const [, name, value] = /^\s*([\w-]+)\s*=\s*(.+?)\s*$/.exec(line) ?? [];
		if (name !== undefined && value !== undefined)
			return isSecretName(name) ? [value.replace(/^(["'])(.*)\1$/, "$2")] : [];
		return /^(?:[^:#]*:){4}(.+)$/.exec(line)?.[1] ?? [];
	});
}

function ofVariable(name: string, value: string): string[] {
	return isSecretName(name) && !value.startsWith("/") ? [value] : passwordsOfUrl(value);
}

function passwordsOfUrl(text: string): string[] {
	return [...text.matchAll(/:\/\/[^/\s:@]*:([^\s@]+)@/g)].flatMap(([, password = ""]) => {
		try {
			return [password, decodeURIComponent(password)];
		} catch {
			return [password];
		}
	});
}

function parse(text: string): unknown[] {
	try {
		return [JSON.parse(text)];
	} catch {
		return [];
	}
}

/** Small regular files below a folder; links are not followed. */
async function readFolder(
	folder: string,
	depth: number,
	room: { left: number },
): Promise<{ path: string; text: string }[]> {
	const entries = await readdir(folder, { withFileTypes: true }).catch((): Dirent[] => []);
	const found: { path: string; text: string }[] = [];
	for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
		const path = join(folder, entry.name);
		if (entry.isDirectory() && entry.name !== "node_modules" && depth > 1)
			found.push(...(await readFolder(path, depth - 1, room)));
		if (!entry.isFile() || room.left <= 0) continue;
		room.left -= 1;
		const text = await readText(path);
		if (text !== undefined) found.push({ path, text });
	}
	return found;
}

async function readText(path: string): Promise<string | undefined> {
	try {
		await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
		const stats = await file.stat();
		return stats.isFile() && stats.size <= maxBytes ? await file.readFile("utf8") : undefined;
	} catch {
		return undefined;
	}
}
