import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Report } from "../../contracts/report.ts";
import type { Finding } from "../../contracts/verification.ts";
import { checkDatabases } from "./check-databases.ts";
import type { DatabaseWork } from "./databases/database-kind.ts";
import { databaseKinds } from "./databases/database-kinds.ts";
import type { GuestView } from "./databases/guest-path.ts";
import { resolveInGuest } from "./databases/guest-path.ts";
import { readExt4State } from "./ext4-check.ts";
import type { WalkResult } from "./file-walk.ts";
import { readWholeTree } from "./file-walk.ts";
import type { FileSystemInImages, Verdict } from "./found-file-system.ts";
import { findingOf } from "./found-file-system.ts";
import type { ImagePart } from "./image-tools.ts";
import { firstLine, runTool } from "./image-tools.ts";
import { readingOptions } from "./mount-options.ts";
import type { PrivateMounts } from "./private-mounts.ts";
import { judgeSameInstant, markerName } from "./same-instant-check.ts";
import { copyToScratch } from "./scratch-copy.ts";
import { checkStructure } from "./structure-check.ts";

export type DatabaseOptions = Pick<DatabaseWork, "startServers" | "programsPrefix" | "limitMs">;

export type LookInsideOptions = {
	report: Report;
	/** Emptied and used for copies. */
	scratchDir: string;
	/** `still` passed, so that it can be read as it lies on the disk; else it is read after its recovery. */
	isStill: boolean;
	/** UUIDs of the report that lie on no image directly. */
	wantedUuids: ReadonlySet<string>;
	/** How long the copy of its disks took, and so how late a change by a thaw half-way can be. */
	copyMs: number;
	mounts: PrivateMounts;
	databases: DatabaseOptions;
	signal: AbortSignal;
};

export type Inside = {
	findings: Finding[];
	/** Images in files of this file system, copied out to the scratch folder. */
	nested: { imagePath: string; fsType: string; uuid: string; insideFile: string }[];
	/** Its files were looked at. */
	wasRead: boolean;
};

/** The checks that need the kernel's or a tool's eyes: structure, marker, files, databases, file systems in files. */
export async function lookInside(fileSystem: FileSystemInImages, options: LookInsideOptions): Promise<Inside> {
	const { mounts, signal, isStill } = options;
	const ext4 = fileSystem.fsType.startsWith("ext") ? await readExt4State(fileSystem.members[0].reader) : undefined;
	const findings: Finding[] = [];
	const { original, recover } = planCopy(fileSystem, isStill, ext4?.superblock.hasOrphans ?? false);
	const copies = original ? { parts: fileSystem.members } : await copyToScratch(fileSystem, options.scratchDir, signal);
	let readable: readonly ImagePart[] | undefined =
		isStill && fileSystem.fsType !== "btrfs" ? fileSystem.members : undefined;
	let structure: Verdict;
	if ("failure" in copies) {
		structure = { status: "unknown", detail: copies.failure };
	} else {
		structure = await checkStructure(fileSystem, copies.parts, { recover, mounts, signal });
		readable ??= copies.parts;
	}
	findings.push(findingOf(fileSystem, "structure", structure));
	const mounted = readable
		? await mounts.mount(readable, {
				fsType: mountType(fileSystem),
				options: readingOptions(fileSystem.fsType),
				readOnly: true,
			})
		: { failure: structure.detail };
	const walked =
		"failure" in mounted
			? mounted
			: await readWholeTree(mounted.folder, {
					markerName: markerName(options.report.jobId),
					wantedUuids: options.wantedUuids,
					laterThan: spanAfterThaw(options.report, options.copyMs),
					kinds: databaseKinds,
					signal,
				});
	const root = "failure" in mounted ? "" : mounted.folder;
	const nested = "failure" in walked ? [] : await lookAtFiles(fileSystem, root, walked, options, findings);
	const reported = options.report.fileSystems.find(({ uuid }) => uuid === fileSystem.uuid);
	const markers = "failure" in walked ? undefined : walked.markers;
	const writtenAtSeconds = ext4?.superblock.writtenAtSeconds;
	const instant = judgeSameInstant({ report: options.report, reported, markers, writtenAtSeconds });
	findings.push(findingOf(fileSystem, "same-instant", instant));
	if ("failure" in walked) {
		// A kernel older than the file system can't mount a sound one either: then its own checker has the word.
		const status = structure.status === "fail" ? "fail" : "unknown";
		const detail = `it can't be mounted for reading: ${walked.failure}`;
		findings.push(findingOf(fileSystem, "files", { status, detail }));
	}
	await mounts.unmountAll();
	if (!("failure" in copies) && !original)
		for (const { imagePath } of copies.parts) await rm(imagePath, { force: true });
	return { findings, nested, wasRead: !("failure" in walked) };
}

/** XFS always replays its dummy; orphans of ext4 are removed by the first mount. Without these its checker complains. */
function planCopy({ fsType }: FileSystemInImages, isStill: boolean, hasOrphans: boolean) {
	const recover = !isStill || fsType === "xfs" || hasOrphans;
	return { recover, original: !recover && fsType !== "btrfs" };
}

async function lookAtFiles(
	fileSystem: FileSystemInImages,
	root: string,
	walked: WalkResult,
	options: LookInsideOptions,
	findings: Finding[],
): Promise<Inside["nested"]> {
	const { unreadable, files, bytes, notRead, changedLater } = walked;
	const more = notRead > 0 ? `; ${notRead} sparse or locked files not read` : "";
	findings.push(
		findingOf(
			fileSystem,
			"files",
			unreadable.length > 0
				? { status: "fail", detail: `${unreadable.length} can't be read: ${unreadable.slice(0, 3).join("; ")}` }
				: { status: "pass", detail: `${files} files, ${bytes} bytes read to their ends${more}` },
		),
	);
	if (changedLater.count > 0) {
		const when = new Date(changedLater.lastMs).toISOString();
		const detail = `${changedLater.count} files were changed after the thaw (${changedLater.path} at ${when})`;
		findings.push(findingOf(fileSystem, "torn", { status: "fail", detail, evidence: "stat --format=%z FILE" }));
	}
	const view = guestView(fileSystem, root, options.report);
	findings.push(
		...(await checkDatabases(fileSystem, walked.databases, inside, {
			...options.databases,
			scratchDir: options.scratchDir,
			follow: (target, folder) => resolveInGuest(target, folder, view),
			signal: options.signal,
		})),
	);
	const nested: Inside["nested"] = [];
	for (const { path, fsType, uuid } of walked.backingFiles) {
		const imagePath = join(await mkdtemp(join(options.scratchDir, "nested-")), "image");
		const args = ["--sparse=always", "--reflink=auto", "--", path.toString("utf8"), imagePath];
		const copied = await runTool("cp", args, options.signal);
		if (copied.exitCode === 0) {
			nested.push({ imagePath, fsType, uuid, insideFile: inside(path) });
			continue;
		}
		const detail = `${inside(path)} can't be copied out: ${copied.failure ?? firstLine(copied.output)}`;
		findings.push(findingOf({ ...fileSystem, uuid, insideFile: inside(path) }, "still", { status: "unknown", detail }));
	}
	return nested;
}

/** Where the guest had it mounted. btrfs is looked at from its top, which need not be what was mounted: not guessed. */
function guestView({ uuid, fsType }: FileSystemInImages, root: string, { fileSystems }: Report): GuestView {
	const own = fileSystems.find((one) => one.uuid === uuid);
	const otherMountPoints = fileSystems.filter((one) => one !== own).map(({ mountPoint }) => mountPoint);
	return { root, mountPoint: fsType === "btrfs" ? undefined : own?.mountPoint, otherMountPoints };
}

/** Its path in the guest's file system: what stands behind `/proc/PID/root/.../mount-PID-N`. */
function inside(path: Buffer): string {
	return path.toString("utf8").replace(/^\/proc\/\d+\/root.*?\/mount-\d+-\d+/, "");
}

function mountType({ fsType }: FileSystemInImages): string {
	return fsType.startsWith("ext") ? "ext4" : fsType;
}

/** A coarse clock stamps inodes up to a tick late; what comes after the copy's end can't have been copied. */
function spanAfterThaw({ thawedAt }: Report, copyMs: number): { fromMs: number; toMs: number } | undefined {
	const thawedAtMs = Date.parse(thawedAt ?? "");
	return Number.isNaN(thawedAtMs) ? undefined : { fromMs: thawedAtMs + 20, toMs: thawedAtMs + copyMs + 5_000 };
}
