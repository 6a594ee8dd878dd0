import type { MachineIdentity } from "../platform/linux/machine-identity.ts";

/** The parts of an identity that stay the same over reboots. */
export type LastingIdentity = { readonly machineId?: string | undefined; readonly systemUuid?: string | undefined };

export function lastingIdentity({ machineId, systemUuid }: MachineIdentity): LastingIdentity {
	return { ...(machineId === undefined ? {} : { machineId }), ...(systemUuid === undefined ? {} : { systemUuid }) };
}

/** A copy of a machine is another machine. Only parts that both sides know are compared. */
export function isOtherMachine(kept: LastingIdentity, now: LastingIdentity): boolean {
	return (["machineId", "systemUuid"] as const).some(
		(part) => kept[part] !== undefined && now[part] !== undefined && kept[part] !== now[part],
	);
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
