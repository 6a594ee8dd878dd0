import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";
import { indexMounts } from "./mount-lookup.ts";
import { readOtherMountNamespaces } from "./mount-namespaces.ts";
import { type Mount, readMountTable } from "./mount-table.ts";
import { isSameProcessAlive, type ProcessIdentity } from "./process-identity.ts";
import { type FolderFault, type HeldFolder, isHeld, openTargetFolder } from "./target-folders.ts";

/** A target of a ledger, with the descriptor by which its freezer holds it. */
type LedgerTarget = { readonly target: FreezeTarget; readonly fd: number };

/** By the freezer's own descriptor, by its path, or by any other mount of the same superblock. */
export async function reopenTarget(one: LedgerTarget, freezer: ProcessIdentity): Promise<HeldFolder | FolderFault> {
	const found = await openLedgerTarget(one, freezer);
	if (isHeld(found)) return found;
	for (const path of await findOtherPaths(one.target.superblock)) {
		const byAlias = await openTargetFolder(one.target, path, "any-folder");
		if (isHeld(byAlias)) return byAlias;
	}
	return found;
}

/**
 * The quick ways of these: by the descriptor of the freezer while that lives, or by its path. In this order: what was
 * mounted over the path since may be a server that does not answer, and then the call hangs.
 */
export async function openLedgerTarget(one: LedgerTarget, freezer: ProcessIdentity): Promise<HeldFolder | FolderFault> {
	if (isSameProcessAlive(freezer)) {
		const byDescriptor = await openTargetFolder(one.target, `/proc/${freezer.pid}/fd/${one.fd}`);
		if (isHeld(byDescriptor)) return byDescriptor;
	}
	return openTargetFolder(one.target);
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
