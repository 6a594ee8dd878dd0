import { StillpointError } from "../../contracts/errors.ts";

/** Azure's names of resources, which become parts of file names here. */
const nameShape = /^[A-Za-z0-9_][A-Za-z0-9._ -]{0,127}$/;

/**
 * What stands before the dot of `N.settings` and `N.status` for a named instance of a handler ("multi-config"):
 * `web.` for the instance `web`, nothing for a handler that has no instances.
 * @throws `settings-invalid` for a name that could leave the folder
 */
export function instancePrefix(extensionName: string | undefined): string {
	if (extensionName === undefined || extensionName === "") return "";
	if (!nameShape.test(extensionName))
		throw new StillpointError("settings-invalid", "the extension name (ConfigExtensionName) is no name for a file");
	return `${extensionName}.`;
}

/**
 * Azure's ConfigSequenceNumber; undefined when the host gives none.
 * @throws `settings-invalid` for what is no number
 */
export function parseSequenceNumber(text: string | undefined): number | undefined {
	if (text === undefined || text === "") return undefined;
	if (!/^\d{1,10}$/.test(text))
		throw new StillpointError("settings-invalid", "the sequence number (ConfigSequenceNumber) is no number");
	return Number(text);
}
