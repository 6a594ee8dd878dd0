import { readFile } from "node:fs/promises";
import { readBootId } from "./boot-id.ts";

/** What tells this machine from a copy of it. Each part may be absent, but the boot id never is. */
export type MachineIdentity = {
	readonly bootId: string;
	/** /etc/machine-id: is copied with the disk. */
	readonly machineId?: string;
	/** SMBIOS system UUID: the hypervisor gives a clone another one. */
	readonly systemUuid?: string;
};

/** The parts that stay the same over reboots. */
export type LastingIdentity = { readonly machineId?: string | undefined; readonly systemUuid?: string | undefined };

/** A copy of a machine is another machine. Only parts that both sides know are compared. */
export function isOtherMachine(kept: LastingIdentity, now: LastingIdentity): boolean {
	return (["machineId", "systemUuid"] as const).some(
		(part) => kept[part] !== undefined && now[part] !== undefined && kept[part] !== now[part],
	);
}

export async function readMachineIdentity(): Promise<MachineIdentity> {
	const [bootId, machineId, systemUuid] = await Promise.all([
		readBootId(),
		readOptional("/etc/machine-id", /^[0-9a-f]{32}$/),
		readOptional("/sys/class/dmi/id/product_uuid", /^[0-9a-f-]{36}$/),
	]);
	return {
		bootId,
		...(machineId === undefined ? {} : { machineId }),
		...(systemUuid === undefined ? {} : { systemUuid }),
	};
}

async function readOptional(path: string, pattern: RegExp): Promise<string | undefined> {
	const text = await readFile(path, "utf8").catch(() => "");
	const word = text.trim().toLowerCase();
	return pattern.test(word) ? word : undefined;
}
