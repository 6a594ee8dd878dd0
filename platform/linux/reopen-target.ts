import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";
import { indexMounts } from "./mount-lookup.ts";
import { readOtherMountNamespaces } from "./mount-namespaces.ts";
import { type Mount, readMountTable } from "./mount-table.ts";
import { isSameProcessAlive, type ProcessIdentity } from "./process-identity.ts";
import { type FolderFault, type HeldFolder, isHeld, openTargetFolder } from "./target-folders.ts";

/** A target of a ledger, with the descriptor by which its freezer holds it. */
type LedgerTarget = { readonly target: FreezeTarget; readonly fd: number };

/** By its path, by the freezer's own descriptor, or by any other mount of the same superblock. */
export async function reopenTarget(one: LedgerTarget, freezer: ProcessIdentity): Promise<HeldFolder | FolderFault> {
	const found = await openLedgerTarget(one, freezer);
	if (isHeld(found)) return found;
	for (const path of await findOtherPaths(one.target.superblock)) {
		const byAlias = await openTargetFolder(one.target, path, "any-folder");
		if (isHeld(byAlias)) return byAlias;
	}
	return found;
}

/** The quick ways of these: by its path, or by the descriptor of the freezer while that lives. */
export async function openLedgerTarget(one: LedgerTarget, freezer: ProcessIdentity): Promise<HeldFolder | FolderFault> {
	const byPath = await openTargetFolder(one.target);
	if (isHeld(byPath) || !isSameProcessAlive(freezer)) return byPath;
	const byDescriptor = await openTargetFolder(one.target, `/proc/${freezer.pid}/fd/${one.fd}`);
	return isHeld(byDescriptor) ? byDescriptor : byPath;
}

async function findOtherPaths(superblock: string): Promise<string[]> {
	const others = await readOtherMountNamespaces(AbortSignal.timeout(2_000));
	return [
		...visiblePaths(await readMountTable(), superblock, ""),
		...others.flatMap(({ pid, mounts }) => visiblePaths(mounts, superblock, `/proc/${pid}/root`)),
	];
}

function visiblePaths(mounts: readonly Mount[], superblock: string, prefix: string): string[] {
	const lookup = indexMounts(mounts);
	return mounts
		.filter((mount) => mount.superblock === superblock && lookup.isVisible(mount))
		.map((mount) => `${prefix}${mount.mountPoint}`);
}
