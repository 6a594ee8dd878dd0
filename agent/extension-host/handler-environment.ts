import { dirname } from "node:path";

/** Nobody answers there: a handler that asks is refused at once instead of waiting for an address of Azure. */
const wireProtocolAddress = "127.0.0.1";
const supportedFeatures = [{ Key: "ExtensionTelemetryPipeline", Value: "1.0" }];

/**
 * The environment of an extension's processes: nothing of the agent's own, and Azure's variables as the handler shall
 * see them. `node` is found as the Node that runs us.
 * @param more of one command; cannot replace what identifies the extension
 */
export function handlerEnvironment(
	extension: { folder: string; version: string },
	more: Readonly<Record<string, string>> = {},
): Record<string, string> {
	return {
		PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
		LANG: "C.UTF-8",
		HOME: "/root",
		ConfigSequenceNumber: "0",
		...more,
		AZURE_GUEST_AGENT_EXTENSION_PATH: extension.folder,
		AZURE_GUEST_AGENT_EXTENSION_VERSION: extension.version,
		AZURE_GUEST_AGENT_WIRE_PROTOCOL_ADDRESS: wireProtocolAddress,
		AZURE_GUEST_AGENT_EXTENSION_SUPPORTED_FEATURES: JSON.stringify(supportedFeatures),
	};
}
