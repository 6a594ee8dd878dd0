import type { Mount } from "./mount-table.ts";

/**
 * What a file system type means for a freeze.
 * `freezable`: FIFREEZE is known to work. `unsupported`: it has block storage and FIFREEZE does not work, or nobody knows.
 * `network`: its storage is elsewhere; no call may be made on it, because it may hang.
 * `no-storage`: it holds nothing of its own on a disk. `interface`: a window into the kernel, not worth a word.
 */
export type FileSystemKind = "freezable" | "unsupported" | "network" | "no-storage" | "interface";

// ext2 to btrfs are measured; the others have freeze_fs in their superblock operations.
const freezable = new Set("ext2 ext3 ext4 xfs btrfs f2fs jfs nilfs2 reiserfs gfs2".split(" "));
const network = new Set(
	"nfs nfs4 cifs smb3 smbfs ncpfs afs coda ceph lustre 9p virtiofs beegfs orangefs davfs vboxsf prl_fs".split(" "),
);
const noStorage = new Set("tmpfs ramfs overlay aufs unionfs ecryptfs hugetlbfs fuse".split(" "));
const interfaces = new Set(
	(
		"proc sysfs devtmpfs devpts cgroup cgroup2 cpuset securityfs debugfs tracefs configfs mqueue bpf pstore efivarfs " +
		"binfmt_misc autofs rpc_pipefs nfsd nsfs selinuxfs smackfs fusectl binder functionfs sockfs pipefs rootfs resctrl"
	).split(" "),
);
const networkFuse =
	/^fuse\.(sshfs|gluster|ceph|s3fs|rclone|davfs|goofys|gcsfuse|blobfuse|juicefs|cvmfs|smbnetfs|curlftpfs)/;

/** @param noDevice types that /proc/filesystems marks `nodev`: they are on no block device (but ZFS is, in its own way). */
export function kindOfFileSystem(
	mount: Pick<Mount, "fsType" | "superblock">,
	noDevice: ReadonlySet<string>,
): FileSystemKind {
	const { fsType, superblock } = mount;
	if (freezable.has(fsType)) return "freezable";
	if (network.has(fsType) || networkFuse.test(fsType)) return "network";
	if (interfaces.has(fsType)) return "interface";
	if (!superblock.startsWith("0:")) return "unsupported";
	if (noStorage.has(fsType) || fsType.startsWith("fuse.")) return "no-storage";
	if (fsType !== "zfs" && noDevice.has(fsType)) return "no-storage";
	return "unsupported";
}

/** The types marked `nodev` in /proc/filesystems. */
export function parseNoDeviceTypes(text: string): Set<string> {
	return new Set(text.split("\n").flatMap((line) => (line.startsWith("nodev\t") ? [line.slice(6).trim()] : [])));
}
