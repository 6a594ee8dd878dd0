/** Whether an application's folders lie on file systems that are in the snapshot. */
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { exits, HoldError } from "./hold-session.mjs";

/** What is mounted below a folder and holds nothing that would outlive the machine. */
const withoutStorage = new Set(["tmpfs", "ramfs", "proc", "sysfs", "devtmpfs", "mqueue", "hugetlbfs"]);

/**
 * O_PATH of Linux (include/uapi/asm-generic/fcntl.h), which Node does not name: a place is looked at, and what lies
 * there not opened. A link that a server's user made may lead to a device that acts when it is opened (a watchdog).
 */
const openPath = 0o10000000;

/**
 * major:minor of the file system that a path lies on, as /proc/self/mountinfo tells it: stat(2) answers another number
 * for a subvolume of btrfs.
 */
export function readSuperblock(path) {
	const descriptor = openSync(path, openPath);
	try {
		const mountId = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8"))?.[1];
		const mount = readMounts().find(({ id }) => id === mountId);
		if (mount === undefined) throw new HoldError(exits.internal, `${path}: no mount table names its file system`);
		return mount.superblock;
	} finally {
		closeSync(descriptor);
	}
}

/**
 * The folders themselves, and every file system that is mounted below one of them.
 *
 * @param {object | undefined} input what Stillpoint told; by hand there is nothing to compare with
 * @param {Record<string, string>} folders what lies there, and the path
 * @throws HoldError `config` when one lies elsewhere, `missing` when one is not there
 */
export function requireCovered(input, folders) {
	requirePlacesCovered(input, folders, readPlaces);
}

/**
 * The same for single files, which are never opened: whoever closes any descriptor of a file drops the POSIX locks that
 * his process has on it. What else lies in their folders, or is mounted there, does not matter.
 */
export function requireFilesCovered(input, files) {
	requirePlacesCovered(input, files, readFilePlace);
}

/**
 * What is elsewhere by a symbolic link, as `requireCovered` takes it.
 *
 * @param {string} folder
 * @param {string[]} below where to look: paths below it, "" being itself
 */
export function listLinks(folder, below) {
	const entries = below.flatMap((place) => readdirSync(join(folder, place)).map((entry) => join(place, entry)));
	const isLink = (entry) => lstatSync(join(folder, entry), { throwIfNoEntry: false })?.isSymbolicLink();
	return Object.fromEntries(entries.filter(isLink).map((entry) => [entry, join(folder, entry)]));
}

function requirePlacesCovered(input, paths, read) {
	if (input?.fileSystems === undefined) return;
	const covered = new Set(input.fileSystems.map(({ superblock }) => superblock));
	for (const [what, path] of Object.entries(paths)) {
		for (const [place, superblock] of lookAt(what, path, read)) {
			if (covered.has(superblock)) continue;
			const named = input.fileSystems.map(({ mountPoint }) => mountPoint).join(", ") || "nothing";
			throw new HoldError(exits.config, `${what} (${place}) is not in the snapshot, which holds ${named}`);
		}
	}
}

function lookAt(what, path, read) {
	try {
		return read(path);
	} catch (error) {
		if (error instanceof HoldError) throw error;
		throw new HoldError(exits.missing, `${what} (${path}) can't be looked at: ${error.code ?? error.message}`);
	}
}

function readPlaces(path) {
	const real = realpathSync(path);
	const below = readMounts().filter(
		({ mountPoint, fsType }) => mountPoint.startsWith(real === "/" ? real : `${real}/`) && !withoutStorage.has(fsType),
	);
	return [[path, readSuperblock(real)], ...below.map(({ mountPoint, superblock }) => [mountPoint, superblock])];
}

/** A file lies where its folder lies, unless it is a mount point itself. */
function readFilePlace(path) {
	const real = realpathSync(path);
	const own = readMounts().findLast(({ mountPoint }) => mountPoint === real);
	return [[path, own?.superblock ?? readSuperblock(dirname(real))]];
}

/** proc(5): id, parent, major:minor, root, mount point, options, tags, a hyphen, type. */
function readMounts() {
	return readFileSync("/proc/self/mountinfo", "utf8")
		.split("\n")
		.filter((line) => line !== "")
		.map((line) => {
			const words = line.split(" ");
			const mountPoint = words[4].replace(/\\([0-7]{3})/g, (_, octal) =>
				String.fromCharCode(Number.parseInt(octal, 8)),
			);
			return { id: words[0], superblock: words[2], mountPoint, fsType: words[words.indexOf("-", 6) + 1] };
		});
}
