import type { SnapshotRequest } from "../../../contracts/extension.ts";
import type { OtherScripts } from "../../../contracts/other-scripts.ts";
import type { ApplicationScripts, BadScripts, CheckTrust } from "./application-scripts.ts";
import { nothingFound } from "./sources/found-scripts.ts";
import { type AzureScripts, readAzureScripts } from "./sources/read-azure-scripts.ts";
import { readAzureWorkload } from "./sources/read-azure-workload.ts";
import { readDropIns } from "./sources/read-drop-ins.ts";
import { qemuHooks, readHookFolders, vmwareHooks } from "./sources/read-hook-folders.ts";

export type ConfiguredApplications = {
	/** By order; of the same order drop-ins by name, then Azure's, QEMU's, VMware's. Names are unique, also among `bad`. */
	readonly applications: readonly ApplicationScripts[];
	readonly bad: readonly BadScripts[];
	/** For people: what is configured and not used, and why. */
	readonly notes: readonly string[];
	/** The admin said in this file that nothing shall be frozen (`fsFreezeEnabled` of Azure's script configuration). */
	readonly freezeDisabledBy: string | undefined;
};

/** All that is configured on the machine, of whatever kind. */
export async function readApplications(
	{ scriptsFolder, otherScripts }: Pick<SnapshotRequest, "scriptsFolder" | "otherScripts">,
	checkTrust: CheckTrust,
): Promise<ConfiguredApplications> {
	const hooks = { checkTrust, deadlineMs: otherScripts.hookDeadlineMs, seen: new Set<string>() };
	const dropIns = await readDropIns(scriptsFolder, checkTrust);
	const azure = await readAzure(otherScripts.azureFolder, checkTrust);
	// First, because what both folders lead to counts as VMware's, which fails the job.
	const vmware = await readHookFolders(otherScripts.vmwareHookFolders, vmwareHooks, hooks);
	const sources = [
		{ applications: dropIns.scripts, bad: dropIns.bad, notes: [] },
		azure,
		await readHookFolders(otherScripts.qemuHookFolders, qemuHooks, hooks),
		vmware,
	];
	const names = new Set<string>();
	return {
		applications: sources
			.flatMap(({ applications }) => applications)
			.map((one) => ({ ...one, name: unique(one.name, names) }))
			.sort((a, b) => a.order - b.order),
		bad: sources.flatMap(({ bad }) => bad).map((one) => ({ ...one, name: unique(one.name, names) })),
		notes: sources.flatMap(({ notes }) => notes),
		freezeDisabledBy: azure.freezeDisabledBy,
	};
}

/** The file in which the machine's admin said that nothing shall be frozen. */
export async function findFreezeDisabled(
	{ azureFolder }: OtherScripts,
	checkTrust: CheckTrust,
): Promise<string | undefined> {
	return (await readAzure(azureFolder, checkTrust)).freezeDisabledBy;
}

/** Never both: a database in `workload.conf` takes the place of the scripts, as in Azure's extension. */
async function readAzure(folder: string | null, checkTrust: CheckTrust): Promise<AzureScripts> {
	if (folder === null) return { ...nothingFound, freezeDisabledBy: undefined };
	const workload = await readAzureWorkload(folder, checkTrust);
	const scripts = await readAzureScripts(folder, checkTrust);
	if (!workload.isNamed) {
		return { ...scripts, bad: [...workload.bad, ...scripts.bad], notes: [...workload.notes, ...scripts.notes] };
	}
	const isUsed = scripts.applications.length + scripts.bad.length > 0 || scripts.freezeDisabledBy !== undefined;
	const why = `${folder}: the script plugin is not used, because workload.conf names a database`;
	return { ...workload, notes: [...workload.notes, ...(isUsed ? [why] : [])], freezeDisabledBy: undefined };
}

/** A drop-in file may be called like anything. */
function unique(name: string, taken: Set<string>): string {
	let result = name;
	for (let count = 2; taken.has(result); count += 1) result = `${name} (${count})`;
	taken.add(result);
	return result;
}
