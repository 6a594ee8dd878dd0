import { StillpointError } from "../contracts/errors.ts";
import type { PlannedDisk } from "../contracts/hold-protocol.ts";
import type { SourceDisk } from "./providers/provider.ts";
import type { DiskMapping } from "./store.ts";

/** The image of each disk that the agent planned: by its kernel name or `serial:TEXT`. `disk-not-mapped` names the rest. */
export function mapDisks(planned: readonly PlannedDisk[], mappings: readonly DiskMapping[]): SourceDisk[] {
	if (planned.length === 0) throw new StillpointError("disk-not-mapped", "the agent planned no disk");
	const missing: string[] = [];
	const found: SourceDisk[] = [];
	for (const { name, serial } of planned) {
		const mapping = mappings.find(
			(one) => one.name === name || (serial !== undefined && one.name === `serial:${serial}`),
		);
		if (mapping === undefined) missing.push(name);
		else found.push({ name, image: mapping.image });
	}
	if (missing.length > 0) {
		const what = `no image is mapped for ${missing.join(", ")}`;
		throw new StillpointError("disk-not-mapped", what, { details: { disks: missing } });
	}
	return found;
}

/** `order-invalid` when a disk or an image is named twice. */
export function checkMappings(mappings: readonly DiskMapping[]): void {
	for (const key of ["name", "image"] as const) {
		const values = mappings.map((one) => one[key]);
		const index = values.findIndex((value, at) => values.indexOf(value) !== at);
		if (index < 0) continue;
		const field = `disks.${index}.${key}`;
		throw new StillpointError("order-invalid", `field "${field}": ${values[index]} is named twice`, {
			details: { field },
		});
	}
}
