/** Whether an application's folders lie on file systems that are in the snapshot. */
import { closeSync, constants, openSync, readFileSync, realpathSync } from "node:fs";
import { exits, HoldError } from "./hold-session.mjs";

/**
 * major:minor of the file system that a path lies on, as /proc/self/mountinfo tells it: stat(2) answers another number
 * for a subvolume of btrfs.
 */
export function readSuperblock(path) {
	const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
	try {
		const mountId = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8"))?.[1];
		const rows = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
		const row = rows.map((line) => line.split(" ")).find(([id]) => id === mountId);
		if (row?.[2] === undefined) throw new HoldError(exits.internal, `${path}: no mount table names its file system`);
		return row[2];
	} finally {
		closeSync(descriptor);
	}
}

/**
 * @param {object | undefined} input what Stillpoint told; by hand there is nothing to compare with
 * @param {Record<string, string>} folders what lies there, and the path
 * @throws HoldError `config` when one lies elsewhere, `missing` when one is not there
 */
export function requireCovered(input, folders) {
	if (input?.fileSystems === undefined) return;
	const covered = new Set(input.fileSystems.map(({ superblock }) => superblock));
	for (const [what, path] of Object.entries(folders)) {
		let superblock;
		try {
			superblock = readSuperblock(realpathSync(path));
		} catch (error) {
			if (error instanceof HoldError) throw error;
			throw new HoldError(exits.missing, `${what} (${path}) can't be looked at: ${error.code ?? error.message}`);
		}
		if (!covered.has(superblock)) {
			const named = input.fileSystems.map(({ mountPoint }) => mountPoint).join(", ") || "nothing";
			throw new HoldError(exits.config, `${what} (${path}) is not in the snapshot, which holds ${named}`);
		}
	}
}
