import { readFile } from "node:fs/promises";
import { StillpointError } from "../../contracts/errors.ts";

/** One line of /proc/PID/mountinfo (proc(5)), unescaped. */
export type Mount = {
	readonly id: number;
	readonly parentId: number;
	/** "MAJOR:MINOR" of the superblock; the same for bind mounts and for subvolumes of one btrfs. */
	readonly superblock: string;
	/** The directory of the file system that is mounted here. */
	readonly root: string;
	readonly mountPoint: string;
	/** Options of this mount; `ro` here may be a read-only view of a writable file system. */
	readonly options: readonly string[];
	readonly fsType: string;
	/** What was mounted: a device path, or any text that the mounter liked. */
	readonly source: string;
	/** Options of the superblock; `ro` here means that nobody can write through any mount. */
	readonly superOptions: readonly string[];
};

/** @throws `message-invalid` naming the line, when one is no mountinfo line. */
export function parseMountInfo(text: string): Mount[] {
	return text
		.split("\n")
		.map((line, index) => ({ line, number: index + 1 }))
		.filter(({ line }) => line !== "")
		.map(({ line, number }) => parseLine(line, number));
}

/** The mount table as process `pid` sees it; without `pid`, as this process does. Reads procfs only. */
export async function readMountTable(pid: number | "self" = "self", signal?: AbortSignal): Promise<Mount[]> {
	return parseMountInfo(
		await readFile(`/proc/${pid}/mountinfo`, signal === undefined ? "utf8" : { encoding: "utf8", signal }),
	);
}

function parseLine(line: string, number: number): Mount {
	const fields = line.split(" ");
	const separator = fields.indexOf("-", 6);
	const [id, parentId, superblock, root, mountPoint, options] = fields;
	const [fsType, source, superOptions] = separator < 0 ? [] : fields.slice(separator + 1);
	if (
		!isCount(id) ||
		!isCount(parentId) ||
		superblock === undefined ||
		!/^\d+:\d+$/.test(superblock) ||
		!root ||
		!mountPoint ||
		!options ||
		!fsType ||
		source === undefined ||
		superOptions === undefined
	)
		throw new StillpointError("message-invalid", `line ${number} of the mount table is not understood`, {
			details: { line: line.slice(0, 200) },
		});
	return {
		id: Number(id),
		parentId: Number(parentId),
		superblock,
		root: unescapeOctal(root),
		mountPoint: unescapeOctal(mountPoint),
		options: options.split(","),
		fsType: unescapeOctal(fsType),
		source: unescapeOctal(source),
		superOptions: superOptions.split(",").map(unescapeOctal),
	};
}

function isCount(text: string | undefined): text is string {
	return text !== undefined && /^\d{1,15}$/.test(text);
}

/** The kernel writes space, tab, newline, backslash (and `#`, `,` in options) as `\ooo`. */
export function unescapeOctal(text: string): string {
	return text.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
