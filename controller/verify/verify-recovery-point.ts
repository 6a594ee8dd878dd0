import { mkdir, mkdtemp, realpath, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import type { RecoveryPoint } from "../../contracts/recovery-point.ts";
import type { Finding, Verification } from "../../contracts/verification.ts";
import { readManifest, writeVerification } from "../recovery-point-manifest.ts";
import { checkBtrfs } from "./btrfs-check.ts";
import { checkExt4 } from "./ext4-check.ts";
import type { FileSystemInImages, Member } from "./found-file-system.ts";
import { findingOf } from "./found-file-system.ts";
import { findFileSystems } from "./image-identity.ts";
import type { DatabaseOptions, Inside } from "./look-inside.ts";
import { lookInside } from "./look-inside.ts";
import { agreesWith, looksLike } from "./look-of-images.ts";
import type { DiskContent } from "./mapping-check.ts";
import { checkMapping, isOpaque } from "./mapping-check.ts";
import type { PrivateMounts } from "./private-mounts.ts";
import { openPrivateMounts } from "./private-mounts.ts";
import type { RawImage } from "./raw-image.ts";
import { openRawImage, regionOf } from "./raw-image.ts";
import { checkXfs } from "./xfs-check.ts";

export type VerifyOptions = {
	/** For copies of images and databases: as much free space as the largest file system, unless it can reflink. */
	scratchDir: string;
	/** Whether servers of this host are started, confined, on copies of databases that are found. Default: true. */
	databaseServers?: boolean | undefined;
	signal: AbortSignal;
};

/** Recovery and check of one database; what is not ended then is `unknown`. */
const databaseLimitMs = 3_600_000;

/**
 * Looks at the raw images of a recovery point, without changing them, and says whether they are what its label says.
 * The answer also lies in `verification.json` beside the manifest, when this returns.
 * @throws StillpointError `recovery-point-invalid` when there is no valid manifest. Everything that is wrong with an
 * image is a finding, not an error.
 */
export async function verifyRecoveryPoint(folder: string, options: VerifyOptions): Promise<Verification> {
	const startedAt = performance.now();
	const recoveryPoint = await readManifest(folder);
	await using undo = new AsyncDisposableStack();
	const scratchDir = await makeScratch(resolve(options.scratchDir));
	undo.defer(() => rm(scratchDir, { recursive: true, force: true }));
	const mounts = undo.use(await openPrivateMounts(scratchDir, [await realpath(folder)], options.signal));
	const findings = await lookAtImages(recoveryPoint, {
		folder: resolve(folder),
		scratchDir,
		mounts,
		undo,
		databases: { startServers: options.databaseServers ?? true, programsPrefix: "/usr", limitMs: databaseLimitMs },
		signal: options.signal,
	});
	const look = looksLike(findings);
	const verification: Verification = {
		schemaVersion: 1,
		recoveryPointId: recoveryPoint.id,
		verifiedAt: new Date().toISOString(),
		durationMs: Math.round(performance.now() - startedAt),
		label: recoveryPoint.level,
		looksLike: look,
		agrees: agreesWith(recoveryPoint.level, look, findings),
		findings,
	};
	await writeVerification(folder, verification);
	return verification;
}

async function makeScratch(parent: string): Promise<string> {
	try {
		await mkdir(parent, { recursive: true, mode: 0o700 });
		return await mkdtemp(join(await realpath(parent), "verify-"));
	} catch (cause) {
		throw new StillpointError("state-unusable", `no scratch folder can be made in ${parent}`, { cause });
	}
}

type Work = {
	folder: string;
	scratchDir: string;
	mounts: PrivateMounts;
	undo: AsyncDisposableStack;
	databases: DatabaseOptions;
	signal: AbortSignal;
};

async function lookAtImages(recoveryPoint: RecoveryPoint, work: Work): Promise<Finding[]> {
	const findings: Finding[] = [];
	const contents: OpenContent[] = [];
	const members: { fsType: string; uuid: string; member: Member }[] = [];
	for (const disk of recoveryPoint.disks) {
		const imagePath = join(work.folder, disk.image);
		try {
			const image = work.undo.use(await openRawImage(imagePath, { follow: false }));
			findings.push(...checkSize(disk, image));
			const found = await findFileSystems(image);
			const opaque = found.filter(({ fsType }) => isOpaque(fsType)).map(({ fsType }) => fsType);
			contents.push({ disk: disk.name, uuids: new Set(found.map(({ uuid }) => uuid)), opaque });
			for (const { fsType, uuid, offsetBytes, sizeBytes } of found) {
				const reader = regionOf(image, offsetBytes, sizeBytes);
				members.push({ fsType, uuid, member: { disk: disk.name, imagePath, offsetBytes, sizeBytes, reader } });
			}
		} catch (error) {
			if (!(error instanceof StillpointError)) throw error;
			findings.push({ disk: disk.name, check: "structure", status: "fail", detail: error.message });
		}
	}
	const pending = groupMembers(members);
	const wantedUuids = nestedCandidates(recoveryPoint, contents);
	for (let one = pending.shift(); one; one = pending.shift()) {
		const { found, nested, wasRead } = await lookAtFileSystem(one, recoveryPoint, wantedUuids, work);
		findings.push(...found);
		if (!wasRead) contentOf(contents, one)?.opaque.push(`${one.uuid}, which can't be read`);
		for (const inner of nested) {
			wantedUuids.delete(inner.uuid);
			contentOf(contents, one)?.uuids.add(inner.uuid);
			pending.push(await openNested(inner, one.members[0].disk, work));
		}
	}
	return [...checkMapping(recoveryPoint, contents), ...findings];
}

type OpenContent = DiskContent & { uuids: Set<string>; opaque: string[] };

function contentOf(contents: readonly OpenContent[], { members }: FileSystemInImages): OpenContent | undefined {
	return contents.find(({ disk }) => disk === members[0].disk);
}

async function lookAtFileSystem(
	one: FileSystemInImages,
	recoveryPoint: RecoveryPoint,
	wantedUuids: ReadonlySet<string>,
	work: Work,
): Promise<{ found: Finding[]; nested: Inside["nested"]; wasRead: boolean }> {
	const bytes = await checkBytes(one, work.signal);
	if (!isFreezable(one.fsType)) return { found: bytes, nested: [], wasRead: true };
	const isStill = bytes.filter(({ check }) => check === "still").every(({ status }) => status === "pass");
	const disks = new Set(one.members.map(({ disk }) => disk));
	const copyMs = Math.max(0, ...recoveryPoint.disks.filter(({ name }) => disks.has(name)).map((disk) => disk.copyMs));
	const inside = await lookInside(one, { ...work, report: recoveryPoint.report, isStill, wantedUuids, copyMs });
	return { found: [...bytes, ...inside.findings], nested: inside.nested, wasRead: inside.wasRead };
}

async function checkBytes(one: FileSystemInImages, signal: AbortSignal): Promise<Finding[]> {
	if (one.fsType === "xfs") return checkXfs(one, signal);
	if (one.fsType === "btrfs") return checkBtrfs(one, signal);
	if (isFreezable(one.fsType)) return checkExt4(one);
	if (!isOpaque(one.fsType)) return [];
	return [findingOf(one, "still", { status: "unknown", detail: `${one.fsType} can't be looked into` })];
}

function isFreezable(fsType: string): boolean {
	return ["ext2", "ext3", "ext4", "xfs", "btrfs"].includes(fsType);
}

function checkSize(disk: RecoveryPoint["disks"][number], image: RawImage): Finding[] {
	if (image.sizeBytes === disk.sizeBytes) return [];
	const detail = `the image has ${image.sizeBytes} bytes, its manifest says ${disk.sizeBytes}`;
	return [{ disk: disk.name, check: "structure", status: "fail", detail }];
}

/** Members of one btrfs come together, wherever they lie. */
function groupMembers(members: readonly { fsType: string; uuid: string; member: Member }[]): FileSystemInImages[] {
	const groups = Map.groupBy(members, ({ fsType, uuid, member }) =>
		fsType === "btrfs" ? uuid : `${member.imagePath}:${member.offsetBytes}`,
	);
	return [...groups.values()].map((group) => {
		const [first] = group as [(typeof group)[number]];
		const all = group.map(({ member }) => member) as [Member, ...Member[]];
		return { fsType: first.fsType, uuid: first.uuid, members: all };
	});
}

/** File systems of the report that lie on no image directly: in a file of another one, if in the recovery point at all. */
function nestedCandidates(recoveryPoint: RecoveryPoint, contents: readonly DiskContent[]): Set<string> {
	const uuids = new Set(recoveryPoint.report.fileSystems.flatMap(({ uuid }) => uuid ?? []));
	for (const content of contents) for (const uuid of content.uuids) uuids.delete(uuid);
	return uuids;
}

async function openNested(
	inner: { imagePath: string; fsType: string; uuid: string; insideFile: string },
	disk: string,
	work: Work,
): Promise<FileSystemInImages> {
	const image = work.undo.use(await openRawImage(inner.imagePath, { follow: false }));
	const { imagePath, fsType, uuid, insideFile } = inner;
	const member: Member = { disk, imagePath, offsetBytes: 0, sizeBytes: image.sizeBytes, reader: image };
	return { fsType, uuid, insideFile, members: [member] };
}
