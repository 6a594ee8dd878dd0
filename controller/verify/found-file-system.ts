import type { Finding } from "../../contracts/verification.ts";
import type { RawReader } from "./raw-image.ts";

/** One device of a file system, as bytes in an image file. */
export type Member = {
	/** The guest's name of the disk that it lies on. */
	disk: string;
	imagePath: string;
	offsetBytes: number;
	sizeBytes: number;
	reader: RawReader;
};

/** A file system in the images of a recovery point; several members only for btrfs. */
export type FileSystemInImages = {
	fsType: string;
	uuid: string;
	members: readonly [Member, ...Member[]];
	/** The path inside the outer file system, when it lies in a file of another one. */
	insideFile?: string;
};

export type Verdict = Pick<Finding, "status" | "detail"> & { evidence?: string };

/** A finding about one file system, under the name of its first (or the given) member's disk. */
export function findingOf(
	fileSystem: FileSystemInImages,
	check: Finding["check"],
	verdict: Verdict,
	member: Member = fileSystem.members[0],
): Finding {
	const where =
		fileSystem.insideFile === undefined ? fileSystem.uuid : `${fileSystem.uuid} in ${fileSystem.insideFile}`;
	return { disk: member.disk, fileSystem: where, check, ...verdict };
}
