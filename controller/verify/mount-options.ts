/**
 * How images of a guest are mounted here. ext4 keeps in its superblock what to do at an error, and `panic` would be
 * this host's panic: so it is always said.
 */
const common = "nodev,nosuid,noexec,noatime";
const ext = `${common},errors=remount-ro`;

/** Nothing is replayed and nothing is written. btrfs: the top-level subvolume, from which all others are reached. */
export function readingOptions(fsType: string): string {
	if (fsType === "xfs") return `${common},norecovery,nouuid`;
	if (fsType === "btrfs") return `${common},rescue=nologreplay,subvolid=5`;
	return `${ext},noload`;
}

/** As a restored disk would first be mounted: the log is replayed. On copies only. */
export function recoveringOptions(fsType: string): string {
	if (fsType === "xfs") return `${common},nouuid`;
	return fsType === "btrfs" ? common : ext;
}
