import { StillpointError } from "../../contracts/errors.ts";
import { isRecord } from "./protected-settings.ts";
import { readLimitedFile } from "./read-limited-file.ts";
import { writeWholeFile } from "./write-whole-file.ts";

const maxSettingsBytes = 4 * 1024 * 1024;

/**
 * Takes the protected settings and their thumbprint out of a settings file and leaves all else of it as it is: who gets
 * the keys later (from a backup of this disk, say) finds nothing to decrypt.
 * @throws `settings-invalid`
 */
export async function blankProtectedSettings(settingsFile: string): Promise<void> {
	try {
		const text = await readLimitedFile(settingsFile, maxSettingsBytes);
		if (text === "") return;
		const content: unknown = JSON.parse(text);
		const runtimeSettings = isRecord(content) ? content["runtimeSettings"] : undefined;
		let changed = false;
		for (const one of Array.isArray(runtimeSettings) ? runtimeSettings : []) {
			const settings = isRecord(one) ? one["handlerSettings"] : undefined;
			if (!isRecord(settings)) continue;
			for (const name of ["protectedSettings", "protectedSettingsCertThumbprint"])
				if (settings[name] !== undefined && settings[name] !== "") {
					settings[name] = "";
					changed = true;
				}
		}
		if (changed) await writeWholeFile(settingsFile, JSON.stringify(content));
	} catch (error) {
		const what = error instanceof SyntaxError ? "is no JSON" : error instanceof Error ? error.message : String(error);
		throw new StillpointError("settings-invalid", `${settingsFile}: the secrets could not be taken out: ${what}`);
	}
}
