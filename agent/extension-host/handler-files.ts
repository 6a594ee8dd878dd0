/** What the host writes for a handler. Every file appears whole. */

import { cp, lstat, mkdir, readdir, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { checkShape } from "../../contracts/check-shape.ts";
import type { handlerEnvironmentFileSchema } from "../../contracts/extension.ts";
import { findSmallFile } from "../../platform/read-small-file.ts";
import { encryptSettings } from "./encrypt-settings.ts";
import { openHandlerKeys } from "./handler-keys.ts";
import type { HandlerPlace } from "./handler-place.ts";
import { replaceFile } from "./replace-file.ts";

export type HandlerState = "NotInstalled" | "Installed" | "Enabled" | "Disabled" | "FailedUpgrade";

const maxStateBytes = 4_096;
const maxSettingsBytes = 4 * 1024 * 1024;
const maxCarriedBytes = 8 * 1024 * 1024;

/** @param instance of a multi-config handler */
export function instanceFile(instance: string | undefined, name: string): string {
	return instance === undefined ? name : `${instance}.${name}`;
}

export async function writeHandlerState(
	{ configFolder }: Pick<HandlerPlace, "configFolder">,
	state: HandlerState,
	instance?: string,
): Promise<void> {
	await replaceFile(join(configFolder, instanceFile(instance, "HandlerState")), state);
}

/** Whatever cannot be read is `NotInstalled`. */
export async function readHandlerState(
	{ configFolder }: Pick<HandlerPlace, "configFolder">,
	instance?: string,
): Promise<string> {
	const is = { code: "state-unusable", limitBytes: maxStateBytes } as const;
	const text = await findSmallFile(join(configFolder, instanceFile(instance, "HandlerState")), is).catch(
		() => undefined,
	);
	return text?.trim() || "NotInstalled";
}

export async function writeHandlerStatus(
	{ name, version, configFolder }: HandlerPlace,
	isReady: boolean,
	code: number,
	message: string,
): Promise<void> {
	const status = isReady ? "Ready" : "NotReady";
	await replaceFile(join(configFolder, "HandlerStatus"), JSON.stringify({ name, version, status, code, message }));
}

/** With the paths that the handler's own processes see. */
export async function writeHandlerEnvironment(place: HandlerPlace, folder = place.folder): Promise<void> {
	const { logFolder, configFolder, statusFolder, heartbeatFile, eventsFolder } = place.seen;
	const file: z.input<typeof handlerEnvironmentFileSchema> = [
		{
			name: place.name,
			version: 1.0,
			handlerEnvironment: { logFolder, configFolder, statusFolder, heartbeatFile, eventsFolder },
		},
	];
	const [first] = file;
	const { handlerEnvironment } = first as (typeof file)[0];
	const withAlias = [{ ...first, handlerEnvironment: { ...handlerEnvironment, eventsFolder_preview: eventsFolder } }];
	await replaceFile(join(folder, "HandlerEnvironment.json"), `${JSON.stringify(withAlias)}\n`);
}

export type HandlerSettings = {
	readonly sequenceNumber: number;
	readonly publicSettings?: Readonly<Record<string, unknown>> | undefined;
	readonly protectedSettings?: Readonly<Record<string, unknown>> | undefined;
};

/**
 * `N.settings`. Protected settings are encrypted for the handler's own key; those of other sequence numbers are blanked
 * first, and keep their time, because handlers take the file that was written last.
 */
export async function writeSettings(
	place: HandlerPlace,
	settings: HandlerSettings,
	instance: string | undefined,
): Promise<void> {
	await mkdir(place.configFolder, { recursive: true, mode: 0o700 });
	const current = instanceFile(instance, `${settings.sequenceNumber}.settings`);
	await blankOthers(place.configFolder, current, instance);
	const { protectedSettings } = settings;
	let secret = {};
	if (protectedSettings !== undefined) {
		const keys = await openHandlerKeys(place.private.stateView, place.name);
		secret = {
			protectedSettings: await encryptSettings(JSON.stringify(protectedSettings), keys.certificate),
			protectedSettingsCertThumbprint: keys.thumbprint,
		};
	}
	// No settings at all: an empty object, as Azure writes it.
	const isEmpty = settings.publicSettings === undefined && protectedSettings === undefined;
	const handlerSettings = isEmpty ? {} : { publicSettings: settings.publicSettings ?? {}, ...secret };
	await replaceFile(
		join(place.configFolder, current),
		`${JSON.stringify({ runtimeSettings: [{ handlerSettings }] })}\n`,
	);
}

const keptSettingsSchema = z.looseObject({
	runtimeSettings: z.array(
		z.looseObject({ handlerSettings: z.looseObject({ protectedSettings: z.string().nullish() }).nullish() }),
	),
});

async function blankOthers(configFolder: string, current: string, instance: string | undefined): Promise<void> {
	const own = instance === undefined ? /^\d+\.settings$/ : new RegExp(`^${instance}\\.\\d+\\.settings$`);
	for (const entry of await readdir(configFolder)) {
		if (entry === current || !own.test(entry)) continue;
		const path = join(configFolder, entry);
		const text = await findSmallFile(path, { code: "settings-invalid", limitBytes: maxSettingsBytes }).catch(() => "");
		const parsed = parseKept(text ?? "");
		const settings = parsed?.runtimeSettings.map(({ handlerSettings }) => handlerSettings);
		if (parsed === undefined || !settings?.some((one) => one?.protectedSettings)) continue;
		for (const one of settings) if (one?.protectedSettings) one.protectedSettings = "";
		const { atime, mtime } = await stat(path);
		await replaceFile(path, `${JSON.stringify(parsed)}\n`);
		await utimes(path, atime, mtime);
	}
}

function parseKept(text: string): z.infer<typeof keptSettingsSchema> | undefined {
	try {
		return checkShape(keptSettingsSchema, JSON.parse(text)).data;
	} catch {
		return undefined;
	}
}

/** Instances that are enabled on this machine, but not among those that are wanted; each with its last number. */
export async function findOtherInstances(
	place: Pick<HandlerPlace, "configFolder">,
	wanted: readonly (string | undefined)[],
): Promise<{ instance: string; sequenceNumber: number }[]> {
	const entries = await readdir(place.configFolder).catch(() => []);
	const names = entries.flatMap((entry) => /^([A-Za-z0-9_-]+)\.HandlerState$/.exec(entry)?.[1] ?? []);
	const found: { instance: string; sequenceNumber: number }[] = [];
	for (const instance of names.filter((name) => !wanted.includes(name))) {
		if ((await readHandlerState(place, instance)) !== "Enabled") continue;
		const settings = new RegExp(`^${instance}\\.(\\d+)\\.settings$`);
		const numbers = entries.map((entry) => Number(settings.exec(entry)?.[1] ?? 0));
		found.push({ instance, sequenceNumber: Math.max(0, ...numbers) });
	}
	return found;
}

/** What a new version takes over from the old one, so that it does no work again: mrseq and the status files. */
export async function carryOver(from: HandlerPlace, to: HandlerPlace): Promise<void> {
	for (const entry of await readdir(from.folder).catch(() => []))
		if (/(^|\.)mrseq$/.test(entry)) await copyOver(join(from.folder, entry), join(to.folder, entry));
	for (const entry of await readdir(from.statusFolder).catch(() => []))
		if (/\.status(\.kept)?$/.test(entry)) await copyOver(join(from.statusFolder, entry), join(to.statusFolder, entry));
}

/** A link, a pipe or a folder of that name is the handler's own matter, and so is what no status file can be. */
async function copyOver(from: string, to: string): Promise<void> {
	const found = await lstat(from).catch(() => undefined);
	if (found?.isFile() !== true || found.size > maxCarriedBytes) return;
	await cp(from, to, { preserveTimestamps: true });
}
