/** Folders of ours, swap, and layers of device mapper. */
import { readFile, statfs } from "node:fs/promises";
import type { Finding } from "../../contracts/check.ts";
import type { NotCovered } from "../../contracts/report.ts";
import { readBlockDevices } from "../../platform/linux/block-devices.ts";
import { kindOfFileSystem } from "../../platform/linux/file-system-types.ts";
import { findMountOf } from "../../platform/linux/mount-lookup.ts";
import { readMountTable } from "../../platform/linux/mount-table.ts";
import { readSwaps } from "../../platform/linux/swaps.ts";
import { humanBytes } from "../output.ts";

/** Room for the journal, logs and a package. */
const leastFreeBytes = 128 * 1024 * 1024;

export async function runFolderFinding(runFolder: string): Promise<Finding> {
	const mount = findMountOf(await readMountTable(), runFolder);
	if (mount?.fsType === "tmpfs") return { check: "run-folder", status: "ok", what: `${runFolder} lies on tmpfs` };
	return {
		check: "run-folder",
		status: "fail",
		what: `${runFolder} lies on ${mount?.fsType ?? "an unknown file system"} (${mount?.mountPoint ?? "?"}), not on tmpfs`,
		why: "Locks and ledgers must never wait for a disk that is held.",
		remedy: "Mount a tmpfs at /run, or name a folder on one: --run-dir, STILLPOINT_RUN_DIR.",
	};
}

/** A folder that does not exist yet is made by the agent, on the file system that its path leads to. */
export async function stateFolderFinding(stateFolder: string): Promise<Finding> {
	const mount = findMountOf(await readMountTable(), stateFolder);
	const check = "state-folder";
	if (mount === undefined) return { check, status: "unknown", what: `${stateFolder}: its file system is not known` };
	// Asking a network mount can hang.
	if (kindOfFileSystem(mount, new Set()) === "network") {
		const remedy = "Put the state folder on a disk of this machine.";
		return { check, status: "warn", what: `${stateFolder} lies on a network mount (${mount.fsType})`, remedy };
	}
	const { bavail, bsize } = await statfs(mount.mountPoint);
	const freeBytes = bavail * bsize;
	const what = `${stateFolder}: ${humanBytes(freeBytes)} free on ${mount.mountPoint}`;
	if (freeBytes >= leastFreeBytes) return { check, status: "ok", what };
	return {
		check,
		status: "warn",
		what,
		why: "Without room no job can be recorded, so none is begun.",
		remedy: `Free at least ${humanBytes(leastFreeBytes)} there, or move the state folder.`,
	};
}

/** @param notCovered of the plan: only swap on a covered disk stands there. */
export async function swapFindings(notCovered: readonly NotCovered[]): Promise<Finding[]> {
	const files = new Set((await readSwaps()).filter(({ isFile }) => isFile).map(({ path }) => path));
	const covered = notCovered.filter(({ why }) => why === "swap").map(({ what }) => what);
	if (covered.length === 0) return [{ check: "swap", status: "ok", what: "no swap lies on a covered disk" }];
	return covered.sort().map((path) => {
		if (!files.has(path))
			return {
				check: "swap",
				status: "ok",
				what: `${path} lies on a covered disk: what is in it is no part of a recovery point`,
			};
		return {
			check: "swap",
			status: "warn",
			what: `the swap file ${path} lies on a file system that is frozen`,
			why: "What has to be paged to it while it is held may wait for the thaw.",
			remedy: "Use a swap partition or zram instead.",
		};
	});
}

/** Encrypted and mapped devices: the freeze goes through them, and a copy of the disk is as encrypted as the disk. */
export async function layerFindings(): Promise<Finding[]> {
	const mapped = (await readBlockDevices()).filter(({ mapperName }) => mapperName !== undefined);
	const named = await Promise.all(
		mapped.map(async ({ number, name, mapperName }) => {
			const uuid = await readFile(`/sys/dev/block/${number}/dm/uuid`, "utf8").catch(() => "");
			return { name, mapperName: mapperName ?? "", kind: layerKind(uuid) };
		}),
	);
	const sorted = named.sort((a, b) => (a.mapperName < b.mapperName ? -1 : 1));
	const encrypted = sorted.filter(({ kind }) => kind.startsWith("encrypted"));
	const others = sorted.filter((one) => !encrypted.includes(one));
	const list = (ones: typeof sorted) => ones.map(({ mapperName, kind }) => `${mapperName} (${kind})`).join(", ");
	return [
		...(encrypted.length === 0
			? []
			: [
					{
						check: "encryption",
						status: "ok" as const,
						what: `${list(encrypted)}: a copy of the disk needs the same key; keep a backup of the header`,
					},
				]),
		...(others.length === 0
			? []
			: [{ check: "layers", status: "ok" as const, what: `device mapper: ${list(others)}` }]),
	];
}

/** The prefix of a device mapper UUID names who made it. */
export function layerKind(uuid: string): string {
	const prefix = /^(CRYPT-[A-Z0-9]+|[A-Za-z]+)-/.exec(uuid.trim())?.[1] ?? "";
	if (prefix.startsWith("CRYPT-")) return `encrypted: ${prefix.slice("CRYPT-".length)}`;
	return prefix === "" ? "device mapper" : prefix === "mpath" ? "multipath" : prefix;
}
