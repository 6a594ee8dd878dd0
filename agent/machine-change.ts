import type { LastingIdentity, MachineIdentity } from "../platform/linux/machine-identity.ts";

export { isOtherMachine } from "../platform/linux/machine-identity.ts";

export function lastingIdentity({ machineId, systemUuid }: MachineIdentity): LastingIdentity {
	return { ...(machineId === undefined ? {} : { machineId }), ...(systemUuid === undefined ? {} : { systemUuid }) };
}

/** Undefined for a text that is no identity. */
export function parseIdentity(text: string | undefined): LastingIdentity | undefined {
	if (text === undefined) return undefined;
	try {
		const value: unknown = JSON.parse(text);
		return typeof value === "object" && value !== null ? (value as LastingIdentity) : undefined;
	} catch {
		return undefined;
	}
}
