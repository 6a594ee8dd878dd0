import type { Finding } from "../../contracts/verification.ts";
import type { FileSystemInImages, Member, Verdict } from "./found-file-system.ts";
import { findingOf } from "./found-file-system.ts";
import { findNewerBtrfsMetadata } from "./newer-metadata.ts";
import type { RawReader } from "./raw-image.ts";
import type { BtrfsSuperblock } from "./superblock-btrfs.ts";
import { btrfsSuperblockBytes, btrfsSuperblocksAt, parseBtrfsSuperblock } from "./superblock-btrfs.ts";

/** The primary and the mirrors that fit on the device; undefined where the bytes are no superblock. */
export async function readBtrfsSuperblocks(reader: RawReader): Promise<(BtrfsSuperblock | undefined)[]> {
	const primary = parseBtrfsSuperblock(await reader.read(btrfsSuperblocksAt[0], btrfsSuperblockBytes));
	const end = Math.min(primary?.deviceSizeBytes ?? 0, reader.sizeBytes);
	const found: (BtrfsSuperblock | undefined)[] = [primary];
	for (const at of btrfsSuperblocksAt.slice(1)) {
		if (at + btrfsSuperblockBytes > end) break;
		found.push(parseBtrfsSuperblock(await reader.read(at, btrfsSuperblockBytes)));
	}
	return found;
}

/**
 * A freeze commits the running transaction: all superblocks of all members carry one generation, no log tree is left
 * (every fsync makes one), and no tree block is of a later generation, as a commit writes the superblocks last.
 * Looked at as bytes: no tool and no kernel is shown a file system whose fsid may be in use on this machine.
 */
export async function checkBtrfs(fileSystem: FileSystemInImages, signal: AbortSignal): Promise<Finding[]> {
	const findings: Finding[] = [];
	const primaries: { member: Member; superblock: BtrfsSuperblock | undefined }[] = [];
	for (const member of fileSystem.members) {
		const superblocks = await readBtrfsSuperblocks(member.reader);
		const [primary] = superblocks;
		primaries.push({ member, superblock: primary });
		findings.push(findingOf(fileSystem, "still", judgeStill(primary), member));
		if (!primary) continue;
		const mirrors = judgeMirrors(superblocks);
		const torn = mirrors.status === "pass" ? await judgeTreeBlocks(member.reader, primary, signal) : mirrors;
		findings.push(findingOf(fileSystem, "torn", torn, member));
	}
	findings.push(findingOf(fileSystem, "members", judgeMembers(primaries.map(({ superblock }) => superblock))));
	return findings;
}

const evidence = "btrfs inspect-internal dump-super -a";

export function judgeStill(superblock: BtrfsSuperblock | undefined): Verdict {
	if (!superblock) return { status: "fail", detail: "the superblock is gone or damaged", evidence };
	if (superblock.checksumOk === false) return { status: "fail", detail: "the superblock fails its checksum", evidence };
	if (superblock.logRoot !== 0n) {
		const detail = "a log tree waits to be replayed: there were fsyncs after the last commit";
		return { status: "fail", detail, evidence };
	}
	return { status: "pass", detail: `a whole transaction (generation ${superblock.generation}), no log tree`, evidence };
}

export function judgeMirrors(superblocks: readonly (BtrfsSuperblock | undefined)[]): Verdict {
	const [primary, ...mirrors] = superblocks;
	for (const [index, mirror] of mirrors.entries()) {
		const at = btrfsSuperblocksAt[index + 1];
		if (!mirror || mirror.checksumOk === false) {
			return { status: "fail", detail: `the superblock's mirror at ${at} is damaged`, evidence };
		}
		const same = mirror.generation === primary?.generation && mirror.root === primary.root;
		if (same && mirror.chunkRoot === primary.chunkRoot) continue;
		const detail = `the mirror at ${at} is of generation ${mirror.generation}, the superblock of ${primary?.generation}`;
		return { status: "fail", detail, evidence };
	}
	return { status: "pass", detail: `${mirrors.length} mirrors equal the superblock`, evidence };
}

async function judgeTreeBlocks(reader: RawReader, primary: BtrfsSuperblock, signal: AbortSignal): Promise<Verdict> {
	const { newer, looked } = await findNewerBtrfsMetadata(reader, primary, signal);
	const first = newer[0];
	if (!first) return { status: "pass", detail: `none of ${looked} tree blocks is newer than the superblock`, evidence };
	const where = `${first.kind} at ${first.offsetBytes} is of generation ${first.writtenIn}`;
	const detail = `${newer.length} tree blocks are newer than the superblock (${primary.generation}): ${where}`;
	return { status: "fail", detail, evidence };
}

export function judgeMembers(superblocks: readonly (BtrfsSuperblock | undefined)[]): Verdict {
	const known = superblocks.filter((one) => one !== undefined);
	const wanted = Math.max(0, ...known.map(({ deviceCount }) => deviceCount));
	const ids = new Set(known.map(({ deviceId }) => deviceId));
	if (known.length !== superblocks.length || ids.size !== known.length || known.length !== wanted) {
		return { status: "fail", detail: `${ids.size} of ${wanted} members are in the recovery point`, evidence };
	}
	const generations = new Set(known.map(({ generation }) => generation));
	if (generations.size > 1) {
		const detail = `the members are of different transactions: generations ${[...generations].join(", ")}`;
		return { status: "fail", detail, evidence };
	}
	return { status: "pass", detail: `${known.length} of ${wanted} members, all of one transaction`, evidence };
}
