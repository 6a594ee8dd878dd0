import type { SnapshotRequest } from "../../../contracts/extension.ts";
import type { ApplicationScripts, BadScripts, CheckTrust } from "./application-scripts.ts";
import { readDropIns } from "./sources/read-drop-ins.ts";

export type ConfiguredApplications = {
	/** By order, then source, then name. */
	readonly applications: readonly ApplicationScripts[];
	readonly bad: readonly BadScripts[];
	/** False: the admin said that nothing shall be frozen (`fsFreezeEnabled` of Azure's script configuration). */
	readonly freezes: boolean;
};

/** All that is configured on the machine, of whatever kind. */
export async function readApplications(
	{ scriptsFolder }: Pick<SnapshotRequest, "scriptsFolder" | "otherScripts">,
	checkTrust: CheckTrust,
): Promise<ConfiguredApplications> {
	const dropIns = await readDropIns(scriptsFolder, checkTrust);
	const applications = dropIns.scripts.toSorted(
		(a, b) => a.order - b.order || compare(a.source, b.source) || compare(a.name, b.name),
	);
	return { applications, bad: dropIns.bad, freezes: true };
}

/** By code unit, so that the order does not depend on the machine's language. */
function compare(a: string, b: string): number {
	return a < b ? -1 : a > b ? 1 : 0;
}
