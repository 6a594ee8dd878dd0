import { readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { checkShape } from "../../contracts/check-shape.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { readHandlerEnvironment } from "./handler-environment.ts";
import { instancePrefix } from "./instance-name.ts";
import { decryptProtectedSettings, isRecord } from "./protected-settings.ts";
import { isMissing, readLimitedFile } from "./read-limited-file.ts";

export type HandlerSettings = {
	readonly sequenceNumber: number;
	/** Of a named instance ("multi-config"). */
	readonly extensionName: string | undefined;
	readonly publicSettings: Readonly<Record<string, unknown>>;
	/** Decrypted. Never log it, write it or pass it on a command line. */
	readonly protectedSettings: Readonly<Record<string, unknown>>;
	readonly settingsFile: string;
};

export type WhichSettings = {
	/** Azure's ConfigSequenceNumber. Without it the file that was modified last, as Azure's agents choose. */
	readonly sequenceNumber?: number | undefined;
	/** Azure's ConfigExtensionName. */
	readonly extensionName?: string | undefined;
	/** Where THUMB.prv and THUMB.crt lie; else the folder above the package, then /var/lib/waagent. */
	readonly keyFolder?: string | undefined;
	/** How long a half-written file is read again. */
	readonly patienceMs?: number | undefined;
};

const maxSettingsBytes = 4 * 1024 * 1024;
const retryMs = 50;
const azureKeyFolder = "/var/lib/waagent";

const optionalText = z.string().nullish();
const settingsFileSchema = z.object({
	runtimeSettings: z
		.array(
			z.object({
				handlerSettings: z.object({
					publicSettings: z.union([z.string(), z.record(z.string(), z.unknown())]).nullish(),
					protectedSettings: optionalText,
					protectedSettingsCertThumbprint: optionalText,
				}),
			}),
		)
		.max(1),
});

/** The settings that this run of a handler is for. @throws `settings-invalid` naming file and field, also when there are none */
export async function readHandlerSettings(packageFolder: string, which: WhichSettings = {}): Promise<HandlerSettings> {
	const settings = await findHandlerSettings(packageFolder, which);
	if (settings !== undefined) return settings;
	const name = `${instancePrefix(which.extensionName)}${which.sequenceNumber ?? "N"}.settings`;
	throw new StillpointError("settings-invalid", `there is no ${name} in the configuration folder of ${packageFolder}`);
}

/** @throws `settings-invalid` naming file and field; never with a value of the settings */
export async function findHandlerSettings(
	packageFolder: string,
	which: WhichSettings = {},
): Promise<HandlerSettings | undefined> {
	const { configFolder } = await readHandlerEnvironment(packageFolder);
	const prefix = instancePrefix(which.extensionName);
	const sequenceNumber = which.sequenceNumber ?? (await findLastModified(configFolder, prefix));
	if (sequenceNumber === undefined) return undefined;
	const settingsFile = join(configFolder, `${prefix}${sequenceNumber}.settings`);
	const invalid = (what: string) => new StillpointError("settings-invalid", `${settingsFile}: ${what}`);
	const found = await findContent(settingsFile, sequenceNumber, which.patienceMs ?? 2_000, invalid);
	if (found === undefined) return undefined;
	const parsed = checkShape(settingsFileSchema, found.content);
	const issue = parsed.error?.issues[0];
	if (issue !== undefined) throw invalid(`${issue.path.join(".")}: ${issue.message}`);
	const given = parsed.data?.runtimeSettings[0]?.handlerSettings;
	const keyFolders = which.keyFolder === undefined ? [dirname(packageFolder), azureKeyFolder] : [which.keyFolder];
	const { protectedSettings, protectedSettingsCertThumbprint: thumbprint } = given ?? {};
	return {
		sequenceNumber,
		extensionName: which.extensionName || undefined,
		publicSettings: parsePublicSettings(given?.publicSettings, invalid),
		protectedSettings: !protectedSettings
			? {}
			: await decryptProtectedSettings(protectedSettings, thumbprint ?? "", keyFolders).catch((error: Error) => {
					throw invalid(error.message);
				}),
		settingsFile,
	};
}

async function findLastModified(folder: string, prefix: string): Promise<number | undefined> {
	const names = await readdir(folder).catch((cause: Error) => {
		throw new StillpointError("settings-invalid", `${folder}: ${cause.message}`, { cause });
	});
	const numbers = names
		.filter((name) => name.startsWith(prefix) && /^\d{1,10}\.settings$/.test(name.slice(prefix.length)))
		.map((name) => Number.parseInt(name.slice(prefix.length), 10));
	const found = await Promise.all(
		numbers.map(async (number) => ({
			number,
			modifiedMs: (await stat(join(folder, `${prefix}${number}.settings`))).mtimeMs,
		})),
	);
	return found.sort((a, b) => b.modifiedMs - a.modifiedMs || b.number - a.number)[0]?.number;
}

/** Agents write these files in place, so one that is cut short is read again for a while. */
async function findContent(
	path: string,
	sequenceNumber: number,
	patienceMs: number,
	invalid: (what: string) => StillpointError,
): Promise<{ content: unknown } | undefined> {
	const deadline = performance.now() + patienceMs;
	for (;;) {
		let text: string;
		try {
			text = await readLimitedFile(path, maxSettingsBytes);
		} catch (error) {
			if (isMissing(error)) return undefined;
			throw invalid(error instanceof Error ? error.message : String(error));
		}
		try {
			return { content: JSON.parse(text) };
		} catch {
			// The parser's message would quote the file, where somebody may have left a secret.
		}
		if (performance.now() >= deadline) {
			// "No settings" is an empty 0.settings with Azure's agents.
			if (text === "" && sequenceNumber === 0) return { content: { runtimeSettings: [] } };
			throw invalid(`is no JSON, nor became it within ${patienceMs} ms`);
		}
		await sleep(retryMs);
	}
}

function parsePublicSettings(
	given: string | Record<string, unknown> | null | undefined,
	invalid: (what: string) => StillpointError,
): Record<string, unknown> {
	if (given === undefined || given === null || given === "") return {};
	if (typeof given !== "string") return given;
	let content: unknown;
	try {
		content = JSON.parse(given);
	} catch {
		throw invalid("publicSettings is a text that is no JSON");
	}
	if (isRecord(content)) return content;
	if (content === null) return {};
	throw invalid("publicSettings is no JSON object");
}
