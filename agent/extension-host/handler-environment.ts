import { dirname } from "node:path";

/** The environment of an extension's processes: nothing of the agent's own. `node` is found as the Node that runs us. */
export function handlerEnvironment(extension: { folder: string; version: string }): Record<string, string> {
	return {
		PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
		LANG: "C.UTF-8",
		HOME: "/root",
		AZURE_GUEST_AGENT_EXTENSION_PATH: extension.folder,
		AZURE_GUEST_AGENT_EXTENSION_VERSION: extension.version,
		ConfigSequenceNumber: "0",
	};
}
