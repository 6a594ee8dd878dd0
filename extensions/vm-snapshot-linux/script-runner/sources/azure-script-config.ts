/**
 * `VMSnapshotScriptPluginConfig.json` of Azure's script framework. Keys, defaults and what an absent key means are those
 * of the extension's code, not of its template. A text where a number or a truth value belongs is a fault: Azure's
 * parser ends in an error on the one, and takes `"false"` for true on the other.
 */
import { z } from "zod";
import { asStillpointError } from "../../../../contracts/errors.ts";
import { checkJson, parseJson } from "../../../../platform/read-small-json.ts";
import { azureFault } from "./azure-file.ts";

/** `"true"`, 0 and 1 mean the same to Azure's parser as to a reader; `"false"` does not. */
const flag = z.union(
	[
		z.boolean(),
		z.literal([0, 1]).transform((one) => one === 1),
		z.stringFormat("true", /^true$/i).transform(() => true),
	],
	{ error: "must be true or false, without quotes" },
);
const number = (what: string) => z.number({ error: `must be ${what}, without quotes` });
/** More of them don't fit into half an hour. */
const maxRetries = 10_000;
const retries = number("a number").transform((count) => Math.min(Math.max(0, Math.ceil(count)), maxRetries));
const params = z
	.array(z.union([z.string().max(4_096), z.number().transform(String)], { error: "must be a text" }), {
		error: "must be a list of texts",
	})
	.max(64);
const location = z.string({ error: "must be a text" }).max(1_024);

/** Keys that are not here are ignored: others may write them for others. */
export const azureScriptConfigSchema = z.object({
	pluginName: z.unknown().optional(),
	/** Telemetry in Azure's extension; here it stands in the report. */
	appName: z.unknown().optional(),
	preScriptLocation: location,
	postScriptLocation: location,
	preScriptParams: params.default([]),
	postScriptParams: params.default([]),
	preScriptNoOfRetries: retries.default(0),
	postScriptNoOfRetries: retries.default(0),
	/** Each script's, all its attempts together. */
	timeoutInSeconds: number("a number of seconds").positive({ error: "leaves no time" }).default(10),
	continueBackupOnFailure: flag.default(true),
	fsFreezeEnabled: flag.default(true),
	/** How often Azure's extension looks whether a script has ended. Nothing is polled here. */
	ScriptsExecutionPollTimeSeconds: z.unknown().optional(),
});
export type AzureScriptConfig = z.output<typeof azureScriptConfigSchema>;

/** @throws `script-config-invalid` with Azure's code 305, naming file and key */
export function parseAzureScriptConfig(text: string, path: string): AzureScriptConfig {
	try {
		const content = parseJson(text, path, "script-config-invalid");
		return checkJson(content, path, { code: "script-config-invalid", schema: azureScriptConfigSchema });
	} catch (cause) {
		throw azureFault(305, asStillpointError(cause).message, cause);
	}
}

/** Sentences for people about keys that mean nothing, and that look as if they were meant. */
export function findMisspeltKeys(text: string, path: string): string[] {
	const known = Object.keys(azureScriptConfigSchema.shape);
	return Object.keys(JSON.parse(text) as object).flatMap((key) => {
		const meant = known.find((one) => one !== key && one.toLowerCase() === key.toLowerCase());
		return meant === undefined ? [] : [`${path}: ${key} is not known; is ${meant} meant?`];
	});
}
