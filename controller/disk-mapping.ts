import { StillpointError } from "../contracts/errors.ts";
import type { PlannedDisk } from "../contracts/hold-protocol.ts";
import type { DiskSelection } from "../contracts/order.ts";
import type { SourceDisk } from "./providers/provider.ts";
import type { DiskMapping } from "./store.ts";

const mostNamed = 20;

/** The image of each disk that the agent planned: by its kernel name or `serial:TEXT`. `disk-not-mapped` names the rest. */
export function mapDisks(planned: readonly PlannedDisk[], mappings: readonly DiskMapping[]): SourceDisk[] {
	if (planned.length === 0) throw new StillpointError("disk-not-mapped", "the agent planned no disk");
	const names = new Set(planned.map(({ name }) => name));
	if (names.size !== planned.length) throw new StillpointError("message-invalid", "the agent planned a disk twice");
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
		const disks = missing.slice(0, mostNamed);
		const more = missing.length > mostNamed ? ` and ${missing.length - mostNamed} more` : "";
		const what = `no image is mapped for ${disks.join(", ")}${more}`;
		throw new StillpointError("disk-not-mapped", what, { details: { disks } });
	}
	if (new Set(found.map(({ image }) => image)).size !== found.length)
		throw new StillpointError("message-invalid", "the agent planned two disks that are one image");
	return found;
}

/** `disk-unknown` when a disk that the order names is not in the plan: the recovery point would lack it. */
export function requirePlanned(wanted: DiskSelection, planned: readonly PlannedDisk[]): void {
	if (wanted === "all" || !("include" in wanted)) return;
	const names = new Set(planned.flatMap(({ name, serial }) => [name, `serial:${serial}`]));
	const lacking = wanted.include.filter((name) => !names.has(name));
	if (lacking.length === 0) return;
	const what = `the agent's plan lacks ${lacking.slice(0, mostNamed).join(", ")}`;
	throw new StillpointError("disk-unknown", what, { details: { disks: lacking } });
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
