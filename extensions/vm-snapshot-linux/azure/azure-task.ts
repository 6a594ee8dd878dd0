/**
 * A backup task as Azure's service asks for it in the settings of the extension: public and protected settings, in each
 * a text `objectStr` of base64 JSON, and a text `customSettings` of JSON. What we use is checked, the rest is ignored.
 */

import { z } from "zod";
import { checkShape } from "../../../contracts/check-shape.ts";
import type { StillpointError } from "../../../contracts/errors.ts";
import { findBase64 } from "../../kit/find-base64.ts";
import { type AzureCode, azureError } from "./azure-codes.ts";

export const snapshotSources = ["onlyGuest", "firstGuestThenHost", "firstHostThenGuest", "onlyHost"] as const;
export type SnapshotSource = (typeof snapshotSources)[number];

/** The LUN that stands for the disk of the operating system. */
export const osDiskLun = -1;

export type MetadataPair = { readonly Key: string; readonly Value: string };

export type AzureTask = {
	readonly taskId: string;
	/** As given: .NET ticks of UTC. */
	readonly startTicks: string;
	/** Milliseconds since 1970; undefined when the service gave no time. */
	readonly startedAtMs: number | undefined;
	readonly source: SnapshotSource;
	/** Whether the service takes a snapshot of one disk that is worth crash only; see docs/azure.md. */
	readonly acceptsCrash: boolean;
	readonly metadata: readonly MetadataPair[];
	readonly flags: Readonly<Record<string, unknown>>;
	readonly instantAccessMinutes: number | undefined;
	/** Undefined: every disk that Azure attached. */
	readonly luns: readonly number[] | undefined;
	/** Secret: whoever has it can act for the task at the host. */
	readonly snapshotTaskToken: string;
	/** Secret, all with their SAS tokens. */
	readonly blobUris: readonly string[];
	readonly statusBlobUri: string | undefined;
};

export type AzureCommand = { readonly command: "install" } | { readonly command: "snapshot"; readonly task: AzureTask };

type Settings = Readonly<Record<string, unknown>>;

const text = z.string().max(4096).nullish();
const flag = z.union([z.boolean(), z.stringFormat("boolean", /^(true|false)$/i)]).nullish();
const publicSchema = z.object({
	commandToExecute: z.string(),
	taskId: z.string().min(1).max(128),
	commandStartTimeUTCTicks: z.union([z.string(), z.number()]).nullish(),
	customSettings: z.string().max(65_536).nullish(),
	isOnlyOSDiskBackupEnabled: flag,
	objectStr: z.string().nullish(),
	logsBlobUri: text,
	statusBlobUri: text,
});
const customSchema = z.object({
	takeSnapshotFrom: z.enum(snapshotSources).nullish(),
	isManagedVm: flag,
	canTakeCrashConsistentSnapshot: flag,
	backupRetryCount: z.union([z.int(), z.stringFormat("number", /^\d{1,9}$/)]).nullish(),
});
// What x-ms-meta-NAME may be called, and what stands in a header.
const pair = z.object({
	Key: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/),
	Value: z.string().regex(/^[\x20-\x7e]{0,4096}$/),
});
const lun = z.int().min(0).max(255);
const includedSchema = z.object({
	dataDiskLunList: z.array(lun).max(256).nullish(),
	isOSDiskIncluded: flag,
	isAnyWADiskIncluded: flag,
	isAnyDirectDriveDiskIncluded: flag,
	isVmgsBlobIncluded: flag,
	instantAccessDurationMinutes: z.int().nonnegative().nullish(),
});
const publicObjectSchema = z.object({
	backupMetadata: z.array(pair).max(256).nullish(),
	snapshotTaskToken: z.string().max(65_536).nullish(),
	includedDisks: z.unknown().optional(),
	dynamicConfigsFromCRP: z.record(z.string(), z.unknown()).nullish(),
});
const protectedSchema = z.object({
	objectStr: z.string().nullish(),
	customSettings: z.string().nullish(),
	snapshotTaskToken: z.string().nullish(),
	logsBlobUri: text,
	statusBlobUri: text,
});
const privateObjectSchema = z.object({ blobSASUri: z.array(z.string().max(8192)).max(257).nullish() });

/** The id of the task alone: it tells whether the rest was seen before. Undefined: these settings are of no task. */
export function findTaskId(publicSettings: Settings): string | undefined {
	const taskId = publicSettings["taskId"];
	return typeof taskId === "string" && taskId !== "" && taskId.length <= 128 ? taskId : undefined;
}

/** @throws `settings-invalid` naming the field and never a value of it; with Azure's code 11 or 17 */
export function parseAzureCommand(given: { publicSettings: Settings; protectedSettings: Settings }): AzureCommand {
	const open = check("publicSettings", publicSchema, given.publicSettings);
	if (open.commandToExecute === "install") return { command: "install" };
	if (open.commandToExecute !== "snapshot") throw invalid("commandToExecute is neither snapshot nor install");
	const secret = check("protectedSettings", protectedSchema, given.protectedSettings);
	if (!open.objectStr) throw invalid("objectStr is missing");
	const object = check("objectStr", publicObjectSchema, decodeObject("objectStr", open.objectStr));
	const hidden = check(
		"protected objectStr",
		privateObjectSchema,
		decodeObject("protected objectStr", secret.objectStr),
	);
	const custom = check(
		"customSettings",
		customSchema,
		parseText("customSettings", open.customSettings || secret.customSettings),
	);
	const included = check("includedDisks", includedSchema.nullish(), object.includedDisks, 17);
	const onlyHost = [
		included?.isAnyWADiskIncluded,
		included?.isAnyDirectDriveDiskIncluded,
		included?.isVmgsBlobIncluded,
	];
	const retries = Number(custom.backupRetryCount ?? 0);
	const blobUris = hidden.blobSASUri ?? [];
	for (const [index, uri] of blobUris.entries()) requireUri(`blobSASUri.${index}`, uri);
	const statusBlobUri = open.statusBlobUri || secret.statusBlobUri || undefined;
	if (statusBlobUri !== undefined) requireUri("statusBlobUri", statusBlobUri);
	const { ticks, startedAtMs } = parseTicks(open.commandStartTimeUTCTicks);
	const task: AzureTask = {
		taskId: open.taskId,
		startTicks: ticks,
		startedAtMs,
		source: onlyHost.some(isSet) ? "onlyHost" : (custom.takeSnapshotFrom ?? "firstHostThenGuest"),
		acceptsCrash: isSet(custom.isManagedVm) && isSet(custom.canTakeCrashConsistentSnapshot) && retries > 0,
		metadata: object.backupMetadata ?? [],
		flags: object.dynamicConfigsFromCRP ?? {},
		instantAccessMinutes: included?.instantAccessDurationMinutes ?? undefined,
		luns: lunsOf(included, isSet(open.isOnlyOSDiskBackupEnabled)),
		snapshotTaskToken: object.snapshotTaskToken || secret.snapshotTaskToken || "",
		blobUris,
		statusBlobUri,
	};
	return { command: "snapshot", task };
}

/** An empty list of data disks without the OS disk is a mistake: it must never become "all". */
function lunsOf(
	included: z.infer<typeof includedSchema> | null | undefined,
	isOnlyOsDisk: boolean,
): number[] | undefined {
	if (included === null || included === undefined) return isOnlyOsDisk ? [osDiskLun] : undefined;
	const luns = [...(included.dataDiskLunList ?? []), ...(isSet(included.isOSDiskIncluded) ? [osDiskLun] : [])];
	if (luns.length === 0) throw invalid("includedDisks names no disk", 17);
	if (new Set(luns).size !== luns.length) throw invalid("includedDisks.dataDiskLunList names a LUN twice", 17);
	return luns;
}

const ticksOf1970 = 621_355_968_000_000_000n;

function parseTicks(given: string | number | null | undefined): { ticks: string; startedAtMs: number | undefined } {
	if (given === null || given === undefined || given === "") return { ticks: "", startedAtMs: undefined };
	const ticks = String(given);
	if (!/^\d{1,19}$/.test(ticks)) throw invalid("commandStartTimeUTCTicks is no number of ticks");
	return { ticks, startedAtMs: Number((BigInt(ticks) - ticksOf1970) / 10_000n) };
}

/** The service pads with blanks and quotes. What is no base64 must not become "nothing said", which means all disks. */
function decodeObject(where: string, base64: string | null | undefined): unknown {
	if (!base64) return {};
	const bytes = findBase64(base64);
	if (bytes === undefined) throw invalid(`${where} is no base64`);
	const json = withoutQuotes(bytes.toString("utf8").trim());
	if (json === "") throw invalid(`${where} is empty`);
	return parseText(where, json);
}

/** By hand: an expression for the quotes at the end would begin anew at each quote of a long run inside. */
function withoutQuotes(text: string): string {
	let [from, end] = [0, text.length];
	while (text[from] === "'") from += 1;
	while (end > from && text[end - 1] === "'") end -= 1;
	return text.slice(from, end);
}

function parseText(where: string, json: string | null | undefined): unknown {
	if (!json) return {};
	try {
		return JSON.parse(json);
	} catch {
		// The parser's own message would quote what may be a secret.
		throw invalid(`${where} is no JSON`);
	}
}

function requireUri(where: string, uri: string): void {
	if (URL.parse(uri)?.protocol !== "https:") throw invalid(`${where} is no https address`);
}

function isSet(value: boolean | string | null | undefined): boolean {
	return String(value).toLowerCase() === "true";
}

function check<T>(where: string, schema: z.ZodType<T>, value: unknown, code: AzureCode = 11): T {
	const parsed = checkShape(schema, value);
	if (parsed.success) return parsed.data;
	const fields = parsed.error.issues.map(({ path, message }) => [[where, ...path.map(String)].join("."), message]);
	throw invalid(
		fields
			.map(([field, message]) => `${field}: ${message}`)
			.slice(0, 5)
			.join("; "),
		code,
	);
}

function invalid(what: string, code: AzureCode = 11): StillpointError {
	return azureError("settings-invalid", code, what);
}
