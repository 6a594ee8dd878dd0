import type { RecoveryPoint } from "../../contracts/recovery-point.ts";
import type { Finding } from "../../contracts/verification.ts";
import { opaqueTypes } from "./superblock-other.ts";

export type DiskContent = {
	disk: string;
	/** UUIDs directly on the image, and those of file systems in files of these. */
	uuids: ReadonlySet<string>;
	/** Containers that can't be looked into (LVM, LUKS, md). */
	opaque: readonly string[];
};

/** Whether each image carries the file systems that the report says lie on its disk, and not those of another disk. */
export function checkMapping(recoveryPoint: RecoveryPoint, contents: readonly DiskContent[]): Finding[] {
	return recoveryPoint.disks.map(({ name }) => {
		const demanded = recoveryPoint.report.disks.find((disk) => disk.name === name)?.fileSystemUuids ?? [];
		const content = contents.find(({ disk }) => disk === name);
		const ofOthers = demandedElsewhere(recoveryPoint, name, demanded);
		return { disk: name, check: "mapping", ...judgeMapping(demanded, content, ofOthers), evidence: "blkid -p IMAGE" };
	});
}

function judgeMapping(
	demanded: readonly string[],
	content: DiskContent | undefined,
	ofOthers: ReadonlySet<string>,
): Pick<Finding, "status" | "detail"> {
	if (!content) return { status: "fail", detail: "the image is missing or can't be read" };
	const missing = demanded.filter((uuid) => !content.uuids.has(uuid));
	const foreign = [...content.uuids].filter((uuid) => ofOthers.has(uuid));
	if (foreign.length > 0) {
		return { status: "fail", detail: `the image carries file systems of another disk: ${foreign.join(", ")}` };
	}
	if (missing.length > 0 && content.opaque.length > 0) {
		return { status: "unknown", detail: `${missing.join(", ")} may lie in ${content.opaque.join(", ")}` };
	}
	if (missing.length > 0) return { status: "fail", detail: `the image lacks ${missing.join(", ")}` };
	if (demanded.length === 0) return { status: "unknown", detail: "the report names no file system on this disk" };
	return { status: "pass", detail: `all ${demanded.length} file systems of the disk are on the image` };
}

/** What the report demands on other disks only; btrfs members share one UUID. */
function demandedElsewhere(recoveryPoint: RecoveryPoint, name: string, demanded: readonly string[]): Set<string> {
	const others = recoveryPoint.report.disks.filter((disk) => disk.name !== name);
	const uuids = new Set(others.flatMap(({ fileSystemUuids }) => fileSystemUuids));
	for (const uuid of demanded) uuids.delete(uuid);
	return uuids;
}

export function isOpaque(fsType: string): boolean {
	return opaqueTypes.includes(fsType);
}
